// The built-in specialist as it is shipped: what it understands, to the command, and what it then does on the board.
#include <cmath>

#include "harness.h"

using namespace slmd::testing;

namespace {

const std::string models = std::string(SLMD_SOURCE) + "/models";

struct Change {
    std::string name;
    int level;
};

std::vector<Change> changes(const std::string& path) {
    std::vector<Change> all;
    std::ifstream f(path);
    double seconds;
    Change c;
    while (f >> seconds >> c.name >> c.level) all.push_back(c);
    return all;
}

// A board with eight outputs and a door that stands open.
struct Board {
    std::string log, config;
    int master = -1;
    std::string name;  // of the serial line's board end

    explicit Board(const std::string& called, const std::string& engine = "",
                   const std::string& agents = models + "/agents")
        : log(folder() + "/" + called + ".lines") {
        const std::vector<std::string> outputs = {"red_light", "yellow_light", "green_light", "white_light",
                                                  "valve_2",   "pump_1",       "fan",         "heater"};
        std::string sim = "log " + log + "\nboard pi-zero-2\n0 thermal 31\n0 thermal.throttle 80\n0 gpio.DOOR 1\n";
        std::string text = "agents = [\"" + agents + "\"]\n" + engine + "[socket]\ntrusted = true\n";
        for (const std::string& o : outputs) {
            sim += "0 gpio." + o + " open\n";
            text += "[[output]]\nname = \"" + o + "\"\nline = \"" + o + "\"\nmax_pulse_ms = 0\n";
        }
        text += "[[trigger]]\nname = \"door\"\nline = \"DOOR\"\nprompt = \"x\"\nto = \"events\"\n";
        master = posix_openpt(O_RDWR | O_NOCTTY);
        grantpt(master);
        unlockpt(master);
        char path[64];
        ptsname_r(master, path, sizeof path);
        name = path;
        text += "[[tty]]\npath = \"" + name + "\"\ntrusted = true\n[board]\nhardware = \"sim:" + folder() + "/" +
                called + ".sim\"\n";
        std::ofstream(folder() + "/" + called + ".sim") << sim;
        config = folder() + "/" + called + ".toml";
        std::ofstream(config) << text;
        keep_ = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
        termios t;
        tcgetattr(keep_, &t);
        cfmakeraw(&t);
        tcsetattr(keep_, TCSANOW, &t);
    }
    ~Board() { close(keep_); }
    DaemonOptions options() const {
        return {.arguments = {"--config", config}, .tty = false, .image = models + "/specialist/board.slm"};
    }
    std::size_t count(const std::string& line, int level) const {
        const auto all = changes(log);
        return static_cast<std::size_t>(std::count_if(
            all.begin(), all.end(), [&](const Change& c) { return c.name == "gpio." + line && c.level == level; }));
    }
    void wait_for(const std::string& line, int level, std::size_t n) const {
        for (int i = 0; i < patience_ms / 20 && count(line, level) < n; i++) usleep(20'000);
    }

  private:
    int keep_ = -1;
};

json ask(Wire& w, const std::string& command) {
    const json reply = w.call("run", {{"agent", "board"}, {"input", command}});
    EXPECT_TRUE(reply.contains("result")) << command << ": " << reply.dump();
    return reply.value("result", json::object());
}

// The answer in the form in which the sets have it.
json answer(const json& result) {
    json out;
    for (const json& c : result.value("calls", json::array()))
        out["calls"].push_back({{"name", c["name"]}, {"arguments", c["arguments"]}});
    if (out.is_null()) out["text"] = result.value("text", "");
    return out;
}

// FNV-1a
void add(std::uint64_t& hash, const std::string& text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
}

struct Marks {
    int right = 0, of = 0;
    std::uint64_t hash = 14695981039346656037u;  // of every answer and how sure it was
};

Marks examine(Wire& w, const std::string& set) {
    Marks m;
    std::ifstream f(models + "/specialist/" + set + ".jsonl");
    for (std::string line; std::getline(f, line);) {
        const json item = json::parse(line);
        const json r = ask(w, item["input"]), got = answer(r);
        m.right += got == json::parse(item["output"].get<std::string>());
        m.of++;
        add(m.hash, got.dump() + r["confidence"].dump());
    }
    return m;
}

}  // namespace

TEST(Specialist, understands_as_many_commands_on_every_machine_and_level) {
    struct {
        const char* set;
        int right, of;
        std::uint64_t hash;
    } const known[] = {
        {"hand", 147, 150, 6151817201406746792u},
        {"hand-second", 46, 50, 2399478911709403952u},
        {"heldout", 263, 300, 4109891508606204942u},
    };
    for (const char* const level : {"", "[engine]\nlevel = \"scalar\"\nthreads = 1\n"}) {
        const Board board(*level == 0 ? "best" : "scalar", level);
        Daemon d(board.options());
        Wire w = d.connect();
        for (const auto& k : known) {
#if defined(SLMD_SANITIZED)  // ten times slower: one set shows what sanitizers can see
            if (k.of != 50) continue;
#endif
            const Marks m = examine(w, k.set);
            EXPECT_EQ(m.right, k.right) << k.set;
            EXPECT_EQ(m.of, k.of) << k.set;
            EXPECT_EQ(m.hash, k.hash) << k.set;
        }
    }
}

TEST(Specialist, drives_the_board) {
    Board board("drives");
    Daemon d(board.options());
    Wire serial(board.master);
    serial.until("#READY:");
    // on the serial line
    serial.send("AT#RUN=\"board\",\"blink the yellow light three times\"\r");
    const std::string said = serial.until("\r\nOK\r\n");
    EXPECT_NE(said.find(R"(#CALL: "switch",1,"{\"name\":\"yellow_light\",\"on\":true,)"), std::string::npos) << said;
    board.wait_for("yellow_light", 0, 4);
    usleep(1'200'000);  // a fourth would begin
    EXPECT_EQ(board.count("yellow_light", 1), 3u);
    EXPECT_EQ(board.count("yellow_light", 0), 4u);  // with the one when it was taken

    Wire w = d.connect();
    const auto result = [&](const std::string& command) {
        const json r = ask(w, command);
        EXPECT_TRUE(r.contains("calls")) << command << ": " << r.dump();
        const json& c = r["calls"][0];
        return c.value("result", c.value("error", ""));
    };
    EXPECT_EQ(result("how warm is it"), "31");
    EXPECT_EQ(result("is the door open?"), "active");
    // conditions: what holds is done, what does not is told, what cannot be known is an error
    EXPECT_EQ(result("turn on the fan if the temperature is above thirty degrees"), "on");
    EXPECT_EQ(result("turn on the heater if the temperature is below five degrees"),
              "not done: temperature is 31, not below 5");
    EXPECT_EQ(result("close valve two if the tank is above eighty percent"),
              "this board says nothing of \"tank\"; AT#HW? lists what it says");
    EXPECT_EQ(result("turn the red light on if the door is open"), "on");
    EXPECT_EQ(result("turn on the green light if the door is closed"), "not done: door is active");
    EXPECT_EQ(result("open valve 3"), "no output \"valve_3\"; AT#GPIO? lists them");
    EXPECT_EQ(result("open valve two and start pump one"), "on");
    const Ran shown = shell(slmctl_path() + " --socket " + d.socket + " agent run board 'is the fan on' 2>&1");
    EXPECT_NE(shown.out.find("  state(name: fan): active\n"), std::string::npos) << shown.out;
    const json joke = ask(w, "tell me a joke");
    EXPECT_EQ(joke["text"], "not for me");
    EXPECT_FALSE(joke.contains("calls"));
    for (const auto& [line, times] : {std::pair<const char*, std::size_t>{"fan", 1},
                                      {"red_light", 1},
                                      {"valve_2", 1},
                                      {"pump_1", 1},
                                      {"heater", 0},
                                      {"green_light", 0},
                                      {"white_light", 0}})
        EXPECT_EQ(board.count(line, 1), times) << line;
    EXPECT_EQ(board.count("valve_2", 0), 1u);
}

TEST(Specialist, switches_nothing_that_it_is_not_sure_of) {
    const std::string agents = folder() + "/strict";
    std::filesystem::create_directory(agents);
    std::ifstream shipped(models + "/agents/board.toml");
    std::string text{std::istreambuf_iterator<char>(shipped), {}};
    const std::string as_shipped = "threshold = 0.95";
    const std::size_t at = text.find(as_shipped);
    ASSERT_NE(at, text.npos);
    std::ofstream(agents + "/board.toml") << text.replace(at, as_shipped.size(), "threshold = 1.0");
    const Board board("strict", "", agents);
    Daemon d(board.options());
    Wire w = d.connect();
    const json r = ask(w, "turn on the red light and how warm is it");
    ASSERT_EQ(r["calls"].size(), 2u) << r.dump();
    EXPECT_EQ(r["calls"][0]["result"].get<std::string>().find("not done: the model is not sure (0.9"), 0u) << r.dump();
    EXPECT_EQ(r["calls"][1]["result"], "31");
    EXPECT_EQ(r["verdict"], "unsure");
    EXPECT_EQ(board.count("red_light", 1), 0u);
}

// What judges an agent that switches things compares its calls, and switches nothing.
TEST(Specialist, is_judged_without_moving_a_thing) {
    const std::string agents = folder() + "/judged";
    std::filesystem::create_directory(agents);
    std::filesystem::copy_file(models + "/agents/board.toml", agents + "/board.toml");
    const Board board("judged", "", agents);
    Daemon d(board.options());
    const std::string ctl = slmctl_path() + " --socket " + d.socket + " ";
    const Ran dry = shell(ctl + "agent run board 'turn on the red light and how warm is it' --dry-run 2>&1");
    EXPECT_EQ(dry.code, 0);
    EXPECT_NE(dry.out.find("  switch(name: red_light, on: true): not done: a dry run\n"), std::string::npos) << dry.out;
    EXPECT_NE(dry.out.find("  read(name: temperature): 31\n"), std::string::npos) << dry.out;
    const std::string set = models + "/specialist/hand-second.jsonl";
    const Ran bench = shell(ctl + "agent bench board " + set);
    EXPECT_NE(bench.out.find("board: 50 inputs, 0.920 "), std::string::npos) << bench.out << bench.err;
    const Ran calibrated = shell(ctl + "calibrate board " + set + " 2>&1");
    EXPECT_NE(calibrated.out.find("50 judged answers, 92.0 % of them right"), std::string::npos) << calibrated.out;
    const Ran compared = shell(ctl + "compare " + set + " --agents board 2>&1");
    EXPECT_NE(compared.out.find("92.0"), std::string::npos) << compared.out;
    for (const Change& c : changes(board.log)) EXPECT_NE(c.level, 1) << c.name;
}
