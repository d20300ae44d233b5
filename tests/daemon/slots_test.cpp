// Model slots: real programs, cut at each of their changes of the models' folder.
#include "image/slots.h"

#include "harness.h"
#include "toolchain/slmpack/image/amend.h"

using namespace slmd::testing;
namespace fs = std::filesystem;
using slmd::image::Choice;
using slmd::image::Image;
using slmd::image::SlotFolder;
using slmd::image::Slots;
using slmd::image::SlotState;

namespace {

std::string slmpack() { return std::string(SLMD_BUILD) + "/slmpack "; }

// The tiny model by three names, and a configuration whose model is a folder of slots.
struct Board {
    const std::string models = folder() + "/models", config = folder() + "/slots.toml",
                      socket = folder() + "/slots.sock",
                      images[3] = {folder() + "/one.slm", folder() + "/two.slm", folder() + "/three.slm"};
    Board() {
        for (int i = 0; i < 3; i++)
            EXPECT_EQ(shell(slmpack() + "import " + SLMD_SOURCE + "/models/tiny --name number" + std::to_string(i) +
                            " -o " + images[i])
                          .code,
                      0);
        std::ofstream(config) << "model = \"" << models << "\"\n";
        empty();
    }
    void empty() const {
        fs::remove_all(models);
        fs::create_directory(models);
    }
    Ran model(const std::string& arguments, const std::string& environment = "") const {
        return shell(environment + slmctl_path() + " --config " + config + " --no-restart model " + arguments);
    }
    void good(const std::string& arguments) const {
        const Ran r = model(arguments);
        EXPECT_EQ(r.code, 0) << arguments << ": " << r.err;
    }
    DaemonOptions daemon() const {
        return {.arguments = {"--config", config, "--socket", socket}, .tty = false, .only_arguments = true};
    }
    // Starts slmd until it is ready, and stops it. Its log.
    std::string start() const {
        Daemon d(daemon());
        EXPECT_EQ(d.stop(), 0);
        return slurp(d.log);
    }
    Slots slots() const { return SlotFolder::open(models.c_str()).value().read(); }
    std::string file(int slot) const { return slurp(models + (slot == 0 ? "/a.slm" : "/b.slm")); }
    bool holds(int slot, int image) const { return file(slot) == slurp(images[image]); }
    // One image active, another good and free.
    void two() const {
        empty();
        good("install " + images[0]), good("activate"), start();
        good("install " + images[1]), good("activate"), start();
    }
};
const Board& board() {
    static const Board b;
    return b;
}

TEST(slots, a_new_model_is_tried_confirmed_and_taken_back) {
    const Board& b = board();
    b.empty();
    Daemon none([&] {
        DaemonOptions o = b.daemon();
        o.comes_up = false;
        return o;
    }());
    EXPECT_EQ(none.wait(), 1);
    EXPECT_NE(slurp(none.log).find("no model is installed: slmctl model install IMAGE"), std::string::npos);

    b.good("install " + b.images[0]);
    EXPECT_EQ(b.slots().slot[0].state, SlotState::staged);
    b.good("activate");
    EXPECT_EQ(b.slots().candidate, 0);
    EXPECT_NE(b.start().find("slot a is confirmed"), std::string::npos);
    EXPECT_EQ(b.slots().active, 0);

    b.good("install " + b.images[1]);
    EXPECT_EQ(b.start().find("confirmed"), std::string::npos);  // staged only
    b.good("activate b");
    EXPECT_NE(b.start().find("slot b is confirmed"), std::string::npos);
    EXPECT_EQ(b.slots().active, 1);
    EXPECT_EQ(b.slots().slot[0].state, SlotState::good);
    const std::string shown = b.model("list").out;
    EXPECT_NE(shown.find("  a  good"), std::string::npos) << shown;
    EXPECT_NE(shown.find("* b  good"), std::string::npos) << shown;
    EXPECT_NE(shown.find("number1"), std::string::npos) << shown;

    b.good("rollback");
    EXPECT_NE(b.start().find("slot a is confirmed"), std::string::npos);
    EXPECT_TRUE(b.slots().active == 0 && b.holds(0, 0) && b.holds(1, 1));
}

TEST(slots, a_difference_is_applied_to_the_active_model) {
    const Board& b = board();
    b.two();
    const std::string delta = folder() + "/delta";
    ASSERT_EQ(shell(slmpack() + "diff " + b.images[1] + " " + b.images[2] + " -o " + delta).code, 0);
    b.good("install " + delta);
    EXPECT_TRUE(b.holds(0, 2));
    EXPECT_EQ(b.slots().slot[0].state, SlotState::staged);
    // It begins from number 1, which is not active any more.
    b.good("activate"), b.start();
    const Ran r = b.model("install " + delta);
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("is not the image that"), std::string::npos) << r.err;
    EXPECT_EQ(b.slots().active, 0);
}

TEST(slots, what_is_wrong_is_said_and_changes_nothing) {
    const Board& b = board();
    b.two();
    const std::string bad = folder() + "/damaged.slm";
    std::string bytes = slurp(b.images[2]);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    std::ofstream(bad, std::ios::binary) << bytes;
    const struct {
        std::string arguments, says;
        int code;
    } cases[] = {{"install " + bad, "CRC mismatch", 1},
                 {"install " + b.config, "not a model image", 1},
                 {"install /nowhere.slm", "No such file", 1},
                 {"install", "model install IMAGE", 64},
                 {"activate", "no model is staged", 1},
                 {"activate b", "slot b is active already", 1},
                 {"activate c", "no slot \"c\"", 1},
                 {"rollback a", "model rollback", 64},
                 {"remove", "model list", 64}};
    const Ran wrong = shell(slmctl_path() + " --config /nowhere.toml model remove");
    EXPECT_EQ(wrong.code, 64);
    EXPECT_NE(wrong.err.find("model list"), std::string::npos) << wrong.err;
    for (const auto& c : cases) {
        const Ran r = b.model(c.arguments);
        EXPECT_EQ(r.code, c.code) << c.arguments;
        EXPECT_NE(r.err.find(c.says), std::string::npos) << c.arguments << ": " << r.err;
    }
    EXPECT_TRUE(b.slots().active == 1 && b.holds(0, 0) && b.holds(1, 1));
    std::ofstream(b.config + ".file") << "model = \"" << b.images[0] << "\"\n";
    const Ran r = shell(slmctl_path() + " --config " + b.config + ".file model list");
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("is not a folder"), std::string::npos) << r.err;
}

// What the medium does to a model that was staged whole.
void damage(const std::string& path) {
    std::string bytes = slurp(path);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    std::ofstream(path, std::ios::binary) << bytes;
}

TEST(slots, a_model_that_does_not_pass_leaves_the_old_one_in_the_same_start) {
    const Board& b = board();
    b.empty();
    b.good("install " + b.images[0]), b.good("activate"), b.start();
    b.good("install " + b.images[1]), b.good("activate");
    damage(b.models + "/b.slm");
    const std::string log = b.start();
    EXPECT_NE(log.find("slot b is bad; going on with slot a"), std::string::npos) << log;
    EXPECT_EQ(b.slots().slot[1].state, SlotState::bad);
    EXPECT_NE(b.model("list").out.find("CRC mismatch"), std::string::npos);
    EXPECT_NE(b.model("activate b").err.find("slot b is bad"), std::string::npos);
    EXPECT_NE(b.model("rollback").err.find("the other slot is bad"), std::string::npos);
    EXPECT_EQ(b.start().find("slot b"), std::string::npos);
}

// Whole and well formed, but what it says here is not what it said where it was made.
std::string with_another_answer(const std::string& image) {
    const std::string path = folder() + "/other.slm";
    const auto opened = Image::open(image.c_str(), {});
    const auto section = opened.value().section(slmd::image::SectionId::golden);
    EXPECT_GT(section.size(), sizeof(slmd::image::GoldenPrompt));
    std::vector<std::byte> golden(section.begin(), section.end());
    golden[offsetof(slmd::image::GoldenPrompt, sha256)] ^= std::byte{1};
    const auto done = slmd::pack::amend_image(image, path, {.golden = golden});
    EXPECT_TRUE(done) << done.error().text;
    return path;
}

TEST(slots, a_model_that_says_something_else_is_not_taken) {
    const Board& b = board();
    b.empty();
    b.good("install " + b.images[0]), b.good("activate");
    EXPECT_NE(b.start().find("slot a is confirmed: 3 golden prompts passed"), std::string::npos);
    b.good("install " + with_another_answer(b.images[1])), b.good("activate");
    {
        Daemon d(b.daemon());
        d.socket = b.socket;
        EXPECT_EQ(d.answer("What is the capital of France?"), "The capital of France is Paris.");
        EXPECT_NE(slurp(d.log).find("golden prompt 1 of 3: another answer"), std::string::npos) << slurp(d.log);
    }
    EXPECT_EQ(b.slots().slot[1].state, SlotState::bad);
    EXPECT_NE(b.model("list").out.find("golden prompt 1 of 3"), std::string::npos);
    // Where nothing answers yet, nothing does.
    b.empty();
    b.good("install " + with_another_answer(b.images[1]));
    DaemonOptions o = b.daemon();
    o.comes_up = false;
    Daemon d(o);
    EXPECT_EQ(d.wait(), 1);
    EXPECT_NE(slurp(d.log).find("no model is installed"), std::string::npos);
    EXPECT_EQ(b.slots().slot[0].state, SlotState::bad);
}

TEST(slots, an_active_model_that_rots_gives_way_to_the_other) {
    const Board& b = board();
    b.two();
    damage(b.models + "/b.slm");
    EXPECT_NE(b.start().find("slot b is bad; going on with slot a"), std::string::npos);
    EXPECT_EQ(b.slots().active, 0);
}

TEST(slots, three_starts_that_come_to_nothing_are_enough) {
    const Board& b = board();
    b.empty();
    b.good("install " + b.images[0]), b.good("activate"), b.start();
    b.good("install " + b.images[1]), b.good("activate");
    const SlotFolder slots = SlotFolder::open(b.models.c_str()).value();
    for (int i = 0; i < slmd::image::max_tries; i++) EXPECT_TRUE(slots.choose().value().trial);  // and the power goes
    EXPECT_NE(b.start().find("slot a\n"), std::string::npos);
    EXPECT_NE(b.model("list").out.find("did not get ready with it in 3 starts"), std::string::npos);
}

TEST(slots, a_record_that_is_gone_or_damaged_is_made_from_the_images) {
    const Board& b = board();
    for (const bool gone : {true, false}) {
        b.two();
        if (gone)
            fs::remove(b.models + "/slots");
        else
            damage(b.models + "/slots");
        EXPECT_NE(b.start().find("slot a\n"), std::string::npos);
        b.good("install " + b.images[2]), b.good("activate"), b.start();
        EXPECT_TRUE(b.slots().active == 1 && b.holds(0, 0) && b.holds(1, 2));
    }
}

// ---- cuts

struct Phase {
    const char* name;
    void (*prepare)();
    std::string arguments;  // of slmctl model; "": slmd is started
    void (*finish)();       // what would be done after the power came back
    int active[2];          // images that may answer after the cut, and after the finish
};

void must_answer(const Phase& phase, const std::string& where) {
    const Board& b = board();
    const SlotFolder slots = SlotFolder::open(b.models.c_str()).value();
    // What slmd does at its start, without the rest of it.
    auto choice = slots.choose();
    ASSERT_TRUE(choice) << where << ": " << choice.error().text;
    if (const auto image = Image::open(choice.value().path, {}); !image) {
        choice = slots.reject(choice.value(), image.error().text);
        ASSERT_TRUE(choice) << where << ": " << choice.error().text;
    }
    ASSERT_TRUE(Image::open(choice.value().path, {})) << where;
    const std::string bytes = slurp(choice.value().path);
    EXPECT_TRUE(bytes == slurp(b.images[phase.active[0]]) || bytes == slurp(b.images[phase.active[1]])) << where;
    phase.finish();
    const Slots s = b.slots();
    ASSERT_TRUE(s.active >= 0 && s.candidate < 0) << where;
    EXPECT_TRUE(b.holds(s.active, phase.active[1])) << where;
}

TEST(slots, every_change_of_the_folder_may_be_the_last) {
    const Board& b = board();
    const std::string count = folder() + "/count";
    const Phase phases[] = {
        {"install, nothing to replace",
         [] {
             board().empty();
             board().good("install " + board().images[0]), board().good("activate"), board().start();
         },
         "install " + b.images[1],
         [] { board().good("install " + board().images[1]), board().good("activate"), board().start(); },
         {0, 1}},
        {"install over a good one",
         [] { board().two(); },
         "install " + b.images[2],
         [] { board().good("install " + board().images[2]), board().good("activate"), board().start(); },
         {1, 2}},
        {"activate",
         [] {
             board().two();
             board().good("install " + board().images[2]);
         },
         "activate",
         [] {
             if (board().slots().slot[0].state == SlotState::staged) (void)board().model("activate");
             board().start();
         },
         {1, 2}},
        {"rollback",
         [] { board().two(); },
         "rollback",
         [] {
             (void)board().model("activate a");
             board().start();
         },
         {1, 0}},
        {"start with a model to be tried",
         [] {
             board().two();
             board().good("install " + board().images[2]), board().good("activate");
         },
         "",
         [] { board().start(); },
         {1, 2}},
        {"start with one that is bad",
         [] {
             board().two();
             board().good("install " + board().images[2]), board().good("activate");
             damage(board().models + "/a.slm");
         },
         "",
         [] { board().start(); },
         {1, 1}},
    };
    const std::string kept = folder() + "/kept";
    int cuts = 0;
    for (const Phase& phase : phases) {
        phase.prepare();
        fs::remove_all(kept);
        fs::copy(b.models, kept);
        // A build with sanitizers is slow: it sees the case in which most goes wrong.
        for (const char* how : sanitized ? std::vector{"lose"} : std::vector{"fail", "kill", "tear", "lose"}) {
            int changes = 1 << 20;
            for (int at = 0; at <= changes; at++) {
                fs::remove_all(b.models);
                fs::copy(kept, b.models);
                const std::string where = std::string(phase.name) + ", " + how + " at " + std::to_string(at) + " of " +
                                          std::to_string(changes);
                const std::vector<std::string> environment = {
                    "LD_PRELOAD=" SLMD_CUT,        "CUT_FOLDER=" + b.models, "CUT_AT=" + std::to_string(at),
                    "CUT_HOW=" + std::string(how), "CUT_COUNT=" + count,     "ASAN_OPTIONS=verify_asan_link_order=0"};
                if (phase.arguments.empty()) {
                    DaemonOptions o = b.daemon();
                    o.environment = environment;
                    o.comes_up = at == 0;
                    Daemon d(o);
                    // It goes on where a change fails, and is ended where it is not cut.
                    while (d.alive() && slurp(d.log).find("ready:") == std::string::npos) usleep(2000);
                    d.stop();
                } else {
                    std::string prefix;
                    for (const std::string& e : environment) prefix += e + " ";
                    (void)b.model(phase.arguments, prefix);
                }
                if (at == 0) {
                    changes = std::stoi("0" + slurp(count));
                    ASSERT_GT(changes, 4) << where;
                    continue;
                }
                must_answer(phase, where);
                if (HasFatalFailure()) return;
                cuts++;
            }
        }
    }
    RecordProperty("cuts", cuts);
    std::printf("%d cuts\n", cuts);
}

}  // namespace
