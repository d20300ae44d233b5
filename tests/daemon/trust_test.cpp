// allowed_keys and require_signature: whose images a real slmd runs.
#include <sys/stat.h>

#include "systemd.h"

using namespace slmd::testing;

namespace {

constexpr const char* france = "What is the capital of France?";

std::string slmpack(const std::string& arguments) {
    const Ran r = shell(std::string(SLMD_BUILD) + "/slmpack " + arguments);
    EXPECT_EQ(r.code, 0) << r.err;
    return r.out;
}

// Two keys, the tiny model signed with each, and not at all.
struct Files {
    const std::string mine = folder() + "/mine", other = folder() + "/other", unsigned_image = tiny_image(),
                      by_me = folder() + "/by-me.slm", by_other = folder() + "/by-other.slm";
    std::string my_id, other_id;

    Files() {
        my_id = id_in(slmpack("keygen -o " + mine));
        other_id = id_in(slmpack("keygen -o " + other));
        slmpack("sign " + unsigned_image + " --key " + mine + " -o " + by_me);
        slmpack("sign " + unsigned_image + " --key " + other + " -o " + by_other);
    }
    static std::string id_in(const std::string& said) { return said.substr(said.rfind("key ") + 4, 16); }
};
const Files& files() {
    static const Files f;
    return f;
}

// A configuration file; lines are counted from 1, the model on the first.
struct Configuration {
    std::string path;
    Configuration(const std::string& image, const std::string& more) {
        static int number = 0;
        path = folder() + "/trust-" + std::to_string(++number) + ".toml";
        std::ofstream(path) << "model = \"" << image << "\"\n" << more;
    }
};
std::string allow(const std::string& key) { return "allowed_keys = [\"" + key + ".pub\"]\n"; }

DaemonOptions with(const Configuration& c, bool comes_up = true) {
    return {.arguments = {"--config", c.path, "--socket", c.path + ".sock"},
            .tty = false,
            .comes_up = comes_up,
            .only_arguments = true};
}
std::string answer(const Configuration& c, Daemon& d) {
    d.socket = c.path + ".sock";
    return d.answer(france);
}
// Its log; it must have ended with this status before it was ready.
std::string refused(const Configuration& c, int status) {
    Daemon d(with(c, false));
    EXPECT_EQ(d.wait(), status);
    const std::string log = slurp(d.log);
    EXPECT_EQ(log.find("ready:"), std::string::npos) << log;
    return log;
}
void expect_part(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" in: " << text;
}

}  // namespace

TEST(Trust, an_image_of_an_allowed_key_answers) {
    for (const std::string more : {"", "require_signature = true\n", "require_signature = false\n"}) {
        const Configuration c(files().by_me, more + allow(files().mine));
        Daemon d(with(c));
        expect_part(slurp(d.log), files().by_me + ": signed by key " + files().my_id);
        expect_part(answer(c, d), "Paris");
    }
    const Configuration both(files().by_other,
                             "allowed_keys = [\"" + files().mine + ".pub\",\n  \"" + files().other + ".pub\"]\n");
    Daemon d(with(both));
    expect_part(slurp(d.log), "signed by key " + files().other_id);
}

TEST(Trust, others_are_refused_before_ready) {
    for (const std::string more : {"", "require_signature = true\n", "require_signature = false\n"})
        expect_part(refused(Configuration(files().by_other, more + allow(files().mine)), 1),
                    files().by_other + ": signed by key " + files().other_id + ", which is none of the 1 allowed");
    for (const std::string more : {"", "require_signature = true\n"})
        expect_part(refused(Configuration(files().unsigned_image, more + allow(files().mine)), 1),
                    files().unsigned_image + ": not signed; slmpack sign IMAGE --key KEY");
}

TEST(Trust, unsigned_ones_are_taken_where_that_is_said_with_a_warning) {
    const Configuration c(files().unsigned_image, "require_signature = false\n" + allow(files().mine));
    Daemon d(with(c));
    expect_part(slurp(d.log), "<4>slmd: " + files().unsigned_image + ": not signed, and taken all the same");
    expect_part(answer(c, d), "Paris");
}

TEST(Trust, without_keys_everything_is_as_before) {
    const Configuration c(files().by_other, "");
    Daemon d(with(c));
    EXPECT_EQ(slurp(d.log).find("signed"), std::string::npos) << slurp(d.log);
    expect_part(answer(c, d), "Paris");
}

TEST(Trust, the_draft_model_needs_a_signature_too) {
    const auto drafted = [&](const std::string& draft) {
        return Configuration(files().by_me, allow(files().mine) + "[engine]\ndraft_model = \"" + draft + "\"\n");
    };
    expect_part(refused(drafted(files().unsigned_image), 1), files().unsigned_image + ": not signed");
    expect_part(refused(drafted(files().by_other), 1), "none of the 1 allowed");
    const Configuration c = drafted(files().by_me);
    Daemon d(with(c));
    expect_part(answer(c, d), "Paris");
}

// A byte that no CRC covers: slmd runs the image unless there is a key.
TEST(Trust, hashes_are_checked_before_ready) {
    const std::string raw = folder() + "/forged.raw";
    std::string bytes;
    slmpack("import " + std::string(SLMD_SOURCE) + "/models/tiny --raw -o " + raw);
    slmpack("sign " + raw + " --key " + files().mine);
    bytes = slurp(raw);
    bytes[5000] = 1;  // behind the header
    std::ofstream(raw, std::ios::binary) << bytes;
    {
        const Configuration c(raw, "");
        Daemon d(with(c));
        expect_part(answer(c, d), "Paris");
    }
    expect_part(refused(Configuration(raw, allow(files().mine)), 1), "there is something between its sections");
}

TEST(Trust, memory_that_is_kept_is_asked_for_its_signature) {
    Systemd systemd;
    const auto start = [&](const Configuration& c, bool comes_up = true) {
        DaemonOptions o = with(c, comes_up);
        o.environment = systemd.environment();
        o.handed_over = systemd.stored();
        return o;
    };
    const auto kill_hard = [](Daemon& d) {
        kill(d.pid(), SIGKILL);
        EXPECT_EQ(d.wait(), 128 + SIGKILL);
    };
    const Configuration anybody(files().by_me, ""), me(files().by_me, allow(files().mine)),
        somebody(files().by_me, allow(files().other));
    {
        Daemon d(start(anybody));
        ASSERT_EQ(systemd.stored().size(), 1u);
        kill_hard(d);
    }
    {  // nobody looked at its hashes
        Daemon d(start(me));
        expect_part(slurp(d.log), "reading the file");
        ASSERT_EQ(systemd.stored().size(), 1u);
        expect_part(systemd.stored()[0].first, "-hashed");
        kill_hard(d);
    }
    {
        Daemon d(start(me));
        expect_part(slurp(d.log), "kept in memory over the restart");
        expect_part(slurp(d.log), "signed by key " + files().my_id);
        expect_part(answer(me, d), "Paris");
        kill_hard(d);
    }
    Daemon d(start(somebody, false));
    EXPECT_EQ(d.wait(), 1);
    expect_part(slurp(d.log), "none of the 1 allowed");
}

TEST(Trust, what_is_wrong_in_the_configuration_is_said_with_its_line) {
    std::ofstream(folder() + "/garbage.pub") << "garbage\n";
    std::filesystem::copy_file(files().mine, folder() + "/secret.pub",
                               std::filesystem::copy_options::overwrite_existing);
    const std::string wire = "[socket]\npath = \"" + folder() + "/s\"\n", image = files().by_me;
    const struct {
        std::string more, expected;
    } cases[] = {{"require_signature = true\n" + wire, ":2: require_signature without a key"},
                 {"allowed_keys = []\n" + wire, ":2: allowed_keys is a list of files"},
                 {"allowed_keys = \"x\"\n" + wire, ":2: allowed_keys is a list of files"},
                 {"allowed_keys = [\n1]\n" + wire, ":3: allowed_keys is a text"},
                 {"require_signature = 1\n" + wire, ":2: require_signature is true or false"},
                 {"allowed_keys = [\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\",\n\"9\"]\n" + wire,
                  ":3: at most 8 keys"},
                 {"\n" + allow("/nowhere/x") + wire, ":3: allowed_keys: /nowhere/x.pub: No such file"},
                 {"allowed_keys = [\"" + files().mine + ".pub\",\n\"" + folder() + "/garbage.pub\"]\n" + wire,
                  ":3: allowed_keys: " + folder() + "/garbage.pub: not a key in PEM"},
                 {allow(folder() + "/secret") + wire, ":2: allowed_keys: " + folder() + "/secret.pub: a private key"},
                 {allow(files().other) + wire, ":1: model " + image + ": signed by key " + files().my_id}};
    for (const auto& c : cases) {
        const Configuration configuration(image, c.more);
        const Ran r = shell(slmd_path() + " --check-config --config " + configuration.path);
        EXPECT_EQ(r.code, 78) << c.more << r.out;
        EXPECT_EQ(r.err.rfind(configuration.path + c.expected, 0), 0u) << c.more << "-> " << r.err;
        if (c.expected.find("model") == std::string::npos) {
            const Ran started = shell(slmd_path() + " --config " + configuration.path);
            EXPECT_EQ(started.code, 78) << c.more << started.err;
            expect_part(started.err, configuration.path + c.expected);
        }
    }
    const Configuration good(image, allow(files().mine) + wire);
    const Ran r = shell(slmd_path() + " --check-config --config " + good.path);
    EXPECT_EQ(r.code, 0) << r.err;
}

TEST(Trust, a_change_of_keys_needs_a_restart) {
    const Configuration c(files().by_me, allow(files().mine));
    Daemon d(with(c));
    std::ofstream(c.path) << "model = \"" << files().by_me << "\"\nrequire_signature = false\n" << allow(files().other);
    kill(d.pid(), SIGHUP);
    for (int i = 0; i < patience_ms / 20 && slurp(d.log).find("reloaded") == std::string::npos; i++) usleep(20'000);
    expect_part(slurp(d.log), "only a restart changes: require_signature, allowed_keys");
}
