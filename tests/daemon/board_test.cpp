// A real slmd on a simulated board: lines, heat, a day of faults.
#include <sys/stat.h>

#include <atomic>
#include <mutex>
#include <regex>
#include <set>
#include <thread>

#include "harness.h"

using namespace slmd::testing;

namespace {

std::string write_file(const std::string& name, const std::string& text) {
    const std::string path = folder() + "/" + name;
    std::ofstream(path) << text;
    return path;
}

// Arguments for a configuration with this text, on a board with this script. The sim's log is the script's neighbour.
std::vector<std::string> board(const std::string& name, const std::string& config, const std::string& script) {
    const std::string sim = write_file(name + ".sim", "log " + folder() + "/" + name + ".lines\n" + script);
    const std::string file = write_file(name + ".toml", "[board]\nhardware = \"sim:" + sim + "\"\n" + config);
    return {"--config", file};
}

struct Change {
    double ms;
    std::string name;
    int level;
};

std::vector<Change> lines(const std::string& name) {
    std::vector<Change> all;
    std::ifstream f(folder() + "/" + name + ".lines");
    double seconds;
    Change c;
    while (f >> seconds >> c.name >> c.level) c.ms = seconds * 1000, all.push_back(c);
    return all;
}

constexpr char pins[] = R"(
[socket]
trusted = true
[pins]
status = "ACT"
busy = "BUSY"
privacy = "SWITCH"
[[trigger]]
name = "door"
line = "DOOR"
prompt = "What is the capital of France?"
to = "tty0"
[[trigger]]
name = "note"
line = "NOTE"
prompt = "What is the capital of Italy?"
to = "file"
[[output]]
name = "relay"
line = "RELAY"
max_pulse_ms = 500
interlock = "LOCK"
)";
constexpr char lines_there[] =
    "board pi-5\nmodel Raspberry Pi 5 Model B\n0 thermal 50\n0 thermal.throttle 80\n0 gpio.DOOR 0\n0 gpio.NOTE 0\n"
    "0 gpio.SWITCH 0\n0 gpio.BUSY open\n0 gpio.RELAY open\n0 gpio.LOCK 1\n";

std::size_t descriptors(pid_t pid) {
    std::size_t n = 0;
    for (const auto& e : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd"))
        n += !e.path().empty();
    return n;
}

}  // namespace

namespace {
constexpr char lamp_and_door[] = R"(
[socket]
trusted = true
[[output]]
name = "lamp"
line = "LAMP"
max_pulse_ms = 300
[[output]]
name = "bell"
line = "BELL"
max_pulse_ms = 0
interlock = "LOCK"
[[trigger]]
name = "door"
line = "DOOR"
prompt = "Is it dark?"
agent = "acts"
to = "events"
)";
constexpr char lamp_is_there[] =
    "board pi-5\nmodel Raspberry Pi 5 Model B\n0 thermal 50\n0 thermal.throttle 80\n0 gpio.DOOR 0\n1 gpio.DOOR 1\n0 "
    "gpio.LAMP open\n"
    "0 gpio.BELL open\n0 gpio.LOCK 0\n";
// An agent that must call the one output that it has.
std::string caller_of(const std::string& output) {
    return "prompt = '{wish}'\ninput.wish = {}\noutput = { text = 100, must_call = true }\n"
           "limits = { steps = 1, max_tokens = 500 }\n[[tool]]\nname = '" +
           output + "'\noutput = '" + output + "'\n";
}
constexpr char asks[] = R"(
prompt = '{wish}'
input.wish = {}
output = { text = 40, must_call = true }
limits = { steps = 3, max_tokens = 500 }
[[tool]]
name = 'switch'
output = ['lamp', 'bell']
max_ms = 400
[[tool]]
name = 'heat'
hardware = ['temperature', 'model']
[[tool]]
name = 'door'
pin = 'door'
[[tool]]
name = 'wind'
hardware = 'wind'
)";
constexpr char feels[] = R"(
prompt = '{wish}'
input.wish = {}
output = { text = 40, must_call = true }
limits = { steps = 2, max_tokens = 500 }
[[tool]]
name = 'heat'
hardware = ['temperature', 'model']
)";
constexpr char lost[] = R"(
prompt = '{wish}'
input.wish = {}
output.text = 40
[[tool]]
name = 'pump'
output = 'pump'
)";
}  // namespace

// What the model says of them is noise; what is done is exactly what it said, and the model is told.
TEST(Tools, do_on_the_board_what_the_model_calls) {
    const std::string agents = folder() + "/tools";
    std::filesystem::create_directory(agents);
    for (const auto& [name, text] : {std::pair<std::string, std::string>{"acts", caller_of("lamp")},
                                     {"asks", asks},
                                     {"rings", caller_of("bell")},
                                     {"feels", feels},
                                     {"lost", lost}})
        std::ofstream(agents + "/" + name + ".toml") << text;
    auto arguments = board("tools", lamp_and_door, lamp_is_there);
    arguments.insert(arguments.end(), {"--agents", agents});
    Daemon d({.arguments = arguments, .image = roomy_image()});
    Wire w = d.connect();
    EXPECT_NE(slurp(d.log).find("agent lost, tool pump: the configuration has no [[output]] \"pump\""),
              std::string::npos);
    int acted = 0, worded = 0, lit = 0, rung = 0, heard = 0;
    for (int i = 0; i < 32; i++) {
        const bool one = i % 4 == 1 || i % 4 == 2;
        constexpr const char* names[] = {"asks", "acts", "rings", "feels"};
        const json reply = w.call("run", {{"agent", names[i % 4]}, {"input", "Wish " + std::to_string(i * 7)}});
        ASSERT_TRUE(reply.contains("result")) << reply.dump();
        const json r = reply["result"];
        bool failed = false;
        for (const json& c : r.value("calls", json::array())) {
            const json &a = c["arguments"], said = c.contains("result") ? c["result"] : json();
            failed |= c.contains("error");
            if (c["name"] == "wind") {
                EXPECT_EQ(c["error"], "this board says nothing of \"wind\"; AT#HW? lists what it says");
            } else if (c["name"] == "heat") {
                EXPECT_EQ(said, a["name"] == "model" ? "Raspberry Pi 5 Model B" : "50");
                heard++;
            } else if (c["name"] == "door") {
                EXPECT_TRUE(said == "inactive" || said == "active");
            } else if (c["name"] == "bell" || a.value("name", "lamp") == "bell") {
                rung += a["on"] == true;
                EXPECT_EQ(c.value("error", "off"), a["on"] ? "bell: its interlock LOCK is open" : "off") << c.dump();
            } else if (a["on"] == false) {
                EXPECT_EQ(said, "off");
            } else if (a.value("ms", 300) > 300) {
                EXPECT_EQ(c["error"], "lamp stays on for 300 ms at most");
            } else if (!c.contains("error")) {
                EXPECT_EQ(said, "on for " + std::to_string(a.value("ms", 300)) + " ms");
                lit++;
            } else {
                EXPECT_EQ(c["error"], "lamp: 60 times in the last minute already");
            }
        }
        acted += r.contains("calls");
        worded += r["text"] != "";
        if (one) {
            EXPECT_EQ(r["text"], "");
        }
        if (r["finish"] == "stop") {
            EXPECT_EQ(r["verdict"], failed ? "fail" : "pass") << r.dump();
        }
    }
    std::printf("%d acted, %d in words too, the lamp %d times, the bell %d times refused, %d readings\n", acted, worded,
                lit, rung, heard);
    EXPECT_GT(acted, 4);
    EXPECT_GT(worded, 4);
    EXPECT_GT(lit, 0);
    EXPECT_GT(rung, 0);
    EXPECT_GT(heard, 0);
    const auto log = lines("tools");
    EXPECT_EQ(
        std::count_if(log.begin(), log.end(), [](const Change& c) { return c.name == "gpio.BELL" && c.level == 1; }),
        0);
    EXPECT_GT(
        std::count_if(log.begin(), log.end(), [](const Change& c) { return c.name == "gpio.LAMP" && c.level == 1; }),
        0);

    // who may not touch the board may not have it touched
    d.tty.send("AT+CMEE=2\rAT#RUN=\"acts\",\"Wish 0\"\r");
    EXPECT_NE(d.tty.until("may not").find("agent acts works on the board, and this port may not"), std::string::npos);
    EXPECT_EQ(w.call("run", {{"agent", "lost"}, {"input", "x"}})["error"]["code"], 22);
    // a line that rises asks an agent, which may
    for (int i = 0; i < patience_ms / 20 && slurp(d.log).find("trigger door:") == std::string::npos; i++)
        usleep(20'000);
    EXPECT_NE(slurp(d.log).find("trigger door:"), std::string::npos) << slurp(d.log);
    // what slmd would say of them before it starts
    std::string check = slmd_path() + " --check-config --model " + roomy_image();
    for (const std::string& a : arguments) check += " " + a;
    const Ran said = shell(check);
    EXPECT_NE((said.out + said.err).find("agent lost, tool pump: the configuration has no [[output]]"),
              std::string::npos)
        << said.out << said.err;
    // several at a time, some of whom leave
    for (int i = 0; i < 12; i++) {
        Wire other = d.connect();
        other.send(
            json{{"jsonrpc", "2.0"}, {"id", 1}, {"method", "run"}, {"params", {{"agent", "asks"}, {"input", "Wish"}}}}
                .dump() +
            "\n");
        usleep(static_cast<useconds_t>(3000 * i));
    }
    EXPECT_TRUE(w.call("run", {{"agent", "asks"}, {"input", "Wish 7"}}).contains("result"));
}

TEST(Lines, an_edge_is_answered_where_it_should_be) {
    auto a = board("edges", pins, std::string(lines_there) + "2 gpio.DOOR 1\n2 gpio.NOTE 1\n");
    const std::string state = folder() + "/edges.state";
    mkdir(state.c_str(), 0700);
    a.insert(a.end(), {"--state", state});
    Daemon d({.arguments = a});
    const std::string told = d.tty.until("Paris.\"\r\n");
    EXPECT_NE(told.find("#TRIG: \"door\",0,\"The capital of France is Paris.\""), std::string::npos) << told;
    for (int i = 0; i < 500 && slurp(state + "/triggers/note").empty(); i++) usleep(20'000);
    EXPECT_EQ(slurp(state + "/triggers/note"), "The capital of Italy is Rome.");
    // The lines follow an answer. On an overloaded machine one may be written before slmd looks up: then the next one.
    const auto changes = [](const char* name, int level) {
        const auto all = lines("edges");
        return std::count_if(all.begin(), all.end(),
                             [&](const Change& c) { return c.name == name && c.level == level; });
    };
    const auto before = changes("gpio.BUSY", 1);
    d.tty.send("AT#SET=\"bias\",\"" + endless() + "\"\r");
    d.tty.until("\r\nOK");
    for (int i = 0; i < 100 && changes("gpio.BUSY", 1) == before; i++) {
        d.tty.send("AT#GEN=\"count\",200\r");
        d.tty.until("\r\nOK");
    }
    EXPECT_GT(changes("gpio.BUSY", 1), before);
    for (int i = 0; i < patience_ms / 20 && changes("gpio.BUSY", 0) <= changes("gpio.BUSY", 1); i++) usleep(20'000);
    EXPECT_EQ(changes("gpio.BUSY", 0), changes("gpio.BUSY", 1) + 1);  // and one at the start
    EXPECT_GT(changes("led", 1), 0);
}

TEST(Lines, an_edge_asks_an_agent) {
    const std::string agents = folder() + "/edge_agents", state = folder() + "/agents.state";
    mkdir(agents.c_str(), 0700), mkdir(state.c_str(), 0700);
    std::ofstream(agents + "/town.toml") << "prompt = 'What is the capital of {country}?'\ninput.country = {}\n"
                                            "output = { choice = ['Paris', 'Rome', 'Berlin'] }\n";
    auto a =
        board("agents",
              "[[trigger]]\nname = \"note\"\nline = \"NOTE\"\nagent = \"town\"\nprompt = \"Italy\"\nto = \"file\"\n"
              "[[trigger]]\nname = \"door\"\nline = \"DOOR\"\nagent = \"nobody\"\nprompt = \"x\"\nto = \"tty0\"\n",
              std::string(lines_there) + "2 gpio.NOTE 1\n2 gpio.DOOR 1\n");
    a.insert(a.end(), {"--state", state, "--agents", agents});
    Daemon d({.arguments = a});
    for (int i = 0; i < 500 && slurp(state + "/triggers/note").empty(); i++) usleep(20'000);
    EXPECT_EQ(slurp(state + "/triggers/note"),
              d.connect().call("run", {{"agent", "town"}, {"input", "Italy"}})["result"]["label"]);
    for (int i = 0; i < 500 && slurp(d.log).find("no agent") == std::string::npos; i++) usleep(20'000);
    EXPECT_NE(slurp(d.log).find("trigger door: no agent \"nobody\""), std::string::npos) << slurp(d.log);
}

TEST(Lines, an_output_is_driven_within_its_limits_and_its_pulse_has_its_length) {
    Daemon d({.arguments = board("pulse", pins, lines_there)});
    Wire w = d.connect();
    w.send("AT+CMEE=2\rAT#GPIO=\"relay\",1,120\r");
    w.until("\r\nOK\r\n"), w.until("\r\nOK\r\n");
    w.send("AT#GPIO=\"relay\",1,501\r");
    EXPECT_EQ(w.until("at most\r\n"), "\r\n+CME ERROR: incorrect parameters: relay stays on for 500 ms at most\r\n");
    double on = -1, off = -1;
    for (int i = 0; i < 500 && off < 0; i++) {
        usleep(20'000);
        on = off = -1;
        for (const Change& c : lines("pulse"))
            if (c.name == "gpio.RELAY" && (c.level == 1 || on >= 0)) (c.level == 1 ? on : off) = c.ms;
    }
    EXPECT_GE(off - on, 119);  // never shorter; how much longer is the machine's load
    const json hw = w.call("hw")["result"];
    EXPECT_EQ(hw["board"], "pi-5");
    EXPECT_EQ(hw["model"], "Raspberry Pi 5 Model B");
    EXPECT_EQ(hw["temperature"], (json{50, 77, 85}));
    EXPECT_EQ(hw["cut"], 0);
    const Ran r = shell(slmctl_path() + " --socket " + d.socket + " hw");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.out.find("temperature      50 77 85\n"), std::string::npos) << r.out;
}

TEST(Lines, an_untrusted_port_sees_nothing) {
    Daemon d({.arguments = board("untrusted", "[pins]\nbusy = \"BUSY\"\n", lines_there)});
    Wire w = d.connect();
    EXPECT_EQ(w.call("hw")["error"]["code"], 268);
    EXPECT_EQ(w.call("gpio", {{"name", "relay"}, {"value", 1}})["error"]["code"], 268);
    d.tty.send("ATE0\rAT#GPIO?\r");
    d.tty.until("\r\nOK\r\n");
    EXPECT_EQ(d.tty.until("268\r\n"), "\r\n+CME ERROR: 268\r\n");
}

TEST(Lines, what_is_wrong_in_the_configuration_is_said_with_its_line) {
    const struct {
        const char *text, *message;
    } cases[] = {{"[pins]\nlamp = \"X\"\n", ":2: unknown key \"lamp\""},
                 {"[pins]\nbusy = 3\n", ":2: busy is the name of a line"},
                 {"[pins]\nbusy = { active = \"low\" }\n", ":2: busy has no line"},
                 {"[pins]\nbusy = { line = \"X\", active = \"down\" }\n", ":2: active is"},
                 {"[pins]\nbusy = { line = \"X\", pull = \"left\" }\n", ":2: pull is"},
                 {"[[trigger]]\nname = \"a\"\nline = \"X\"\n", ":1: a [[trigger]] has a name, a line and a prompt"},
                 {"[[trigger]]\nname = \"a b\"\n", ":2: a name has letters"},
                 {"[[trigger]]\nedge = \"up\"\n", ":2: edge is"},
                 {"[[trigger]]\nto = \"tty9\"\n", ":2: to is"},
                 {"[[output]]\nname = \"a\"\n", ":1: an [[output]] has a name and a line"},
                 {"[[output]]\nper_minute = 100\n", ":2: per_minute = 100: use 1 to 60"},
                 {"[governor]\nlimit = 300\n", ":2: limit = 300: use 0 to 110"},
                 {"[board]\nname = \"pi-5\"\nhardware = 1\n", ":3: hardware is a text"},
                 {"[board]\nhardware = \"virtual\"\n", "hardware \"virtual\": use"},
                 {"[board]\nhardware = \"sim:/no/such\"\n", "/no/such"},
                 {"[board]\nfiles = \"/no/such\"\nname = \"pi-5\"\n", "pi-5"}};
    for (const auto& c : cases) {
        const std::string file = write_file("wrong.toml", c.text);
        const Ran r = shell("timeout 20 " + slmd_path() + " --model " + tiny_image() + " --socket " + folder() +
                            "/wrong.sock --config " + file);
        EXPECT_TRUE(r.code == 78 || r.code == 1) << r.code;
        EXPECT_NE(r.err.find(c.message), std::string::npos) << c.text << r.err;
    }
}

// Up to 85 degrees, and a supply that gives way: threads go down before the limit, requests become slow, none is lost.
TEST(Heat, slows_down_in_time_and_loses_nothing) {
    const std::string script =
        "speed 10\n0 thermal.throttle 85\n0 thermal 50\n0 power.undervoltage 0\n20 power.undervoltage 1\n"
        "40 power.undervoltage 0\n60 thermal 85 over 60\n200 thermal 50 over 20\n";
    Daemon d({.arguments = [&] {
        auto a = board("heat", "[socket]\ntrusted = true\n", script);
        a.insert(a.end(), {"--threads", "4"});
        return a;
    }()});
    Wire events = d.connect();
    EXPECT_EQ(events.call("evt", {{"mask", 1}})["result"]["mask"], 1);
    std::atomic<bool> stop{false};
    std::atomic<int> asked{0}, answered{0};
    std::vector<std::thread> clients;
    for (int i = 0; i < 3; i++)
        clients.emplace_back([&] {
            while (!stop) {
                asked++;
                answered += d.answer("What is the capital of France?") == "The capital of France is Paris.";
            }
        });
    double first = 0;
    int fewest = 4, decisions = 0;
    bool power = false;
    for (;;) {
        const json e = events.line();
        if (!e.contains("params")) break;
        decisions++;
        const auto& p = e["params"];
        if (p["name"] == "THERM" && first == 0) first = p["value"];
        power |= p["name"] == "POWER";
        fewest = std::min(fewest, p["threads"].get<int>());
        if (first > 0 && decisions > 4 && p["threads"] == 4) break;  // it has cooled down
    }
    stop = true;
    for (auto& t : clients) t.join();
    EXPECT_GT(first, 60);
    EXPECT_LT(first, 82);  // the limit: 3 degrees before the board would slow itself down
    EXPECT_EQ(fewest, 1);
    EXPECT_TRUE(power);
    EXPECT_GT(asked, 3);
    EXPECT_EQ(asked, answered);
    const std::string log = slurp(d.log);
    EXPECT_NE(log.find("THERM"), std::string::npos) << log;
    EXPECT_EQ(std::count(log.begin(), log.end(), '%') >= decisions, true) << log;
    EXPECT_EQ(events.call("hw")["result"]["decisions"], decisions);
}

TEST(Heat, far_too_hot_takes_nothing_until_it_is_cool) {
    Daemon d({.arguments =
                  board("stop", "", "speed 20\n0 thermal.throttle 80\n0 thermal 50\n20 thermal 90\n60 thermal 60\n")});
    Wire w = d.connect();
    const auto code = [&] {
        return w.call("gen", {{"prompt", "Hi"}, {"max", 2}}).value("error", json::object()).value("code", 0);
    };
    int seen = 0;
    for (int i = 0; i < 2000 && seen != 265; i++) seen = code(), usleep(5000);
    EXPECT_EQ(seen, 265);
    for (int i = 0; i < 2000 && seen == 265; i++) seen = code(), usleep(5000);
    EXPECT_EQ(seen, 0);
}

TEST(Power, a_request_says_what_it_took) {
    Daemon d({.arguments = board("joules", "", "0 power.watts 5\n")});
    const json r = d.connect().call("gen", {{"prompt", "What is the capital of France?"}})["result"];
    ASSERT_TRUE(r.contains("joules")) << r;
    EXPECT_GE(r["joules"].get<double>(), 0);
    EXPECT_LE(r["joules"].get<double>(), 5 * (r["total_ms"].get<double>() + 1) / 1000);
    Daemon none({.arguments = board("nojoules", "", "0 thermal 50\n")});
    EXPECT_FALSE(none.connect().call("gen", {{"prompt", "Hi"}})["result"].contains("joules"));  // none is invented
}

TEST(Trace, a_recorded_board_is_played_by_slmd) {
    const std::string trace = folder() + "/here.trace";
    Ran r = shell(slmctl_path() + " --boards " SLMD_SOURCE "/boards --seconds 2 --line NONE hw record " + trace);
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_NE(slurp(trace).find("memory.available"), std::string::npos) << slurp(trace);
    EXPECT_NE(slurp(trace).find("# GPIO line NONE"), std::string::npos);
    r = shell(slmctl_path() + " --boards " SLMD_SOURCE "/boards hw record " + trace);
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("not overwritten"), std::string::npos) << r.err;
    const std::string config =
        write_file("trace.toml", "[socket]\ntrusted = true\n[board]\nhardware = \"replay:" + trace + "\"\n");
    Daemon d({.arguments = {"--config", config}});
    EXPECT_TRUE(d.connect().call("hw")["result"].contains("memory"));
}

TEST(Client, previews_what_would_leave) {
    Ran r = shell("printf 'Ada, ada@example.org' | " + slmctl_path() + " --term ada route preview -");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out, "[NAME_1], [EMAIL_1]\n");
    EXPECT_EQ(r.err, "NAME   bytes 0 to 3\nEMAIL  bytes 5 to 20\n");
    r = shell(slmctl_path() + " route preview 'The pump is on.'");
    EXPECT_EQ(r.out, "The pump is on.\n");
    EXPECT_EQ(r.err, "");
    r = shell("printf '\\377' | " + slmctl_path() + " route preview -");
    EXPECT_EQ(r.code, 1);
    EXPECT_EQ(r.out, "");
    EXPECT_NE(r.err.find("not UTF-8"), std::string::npos) << r.err;
    EXPECT_EQ(shell(slmctl_path() + " route preview").code, 64);
    EXPECT_EQ(shell(slmctl_path() + " route").code, 64);
}

TEST(Board, show_and_check) {
    Ran r = shell(slmctl_path() + " --boards " SLMD_SOURCE "/boards board show");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.out.find("board          "), std::string::npos) << r.out;
    EXPECT_NE(r.out.find("memory         "), std::string::npos) << r.out;
    r = shell(slmctl_path() + " --boards " SLMD_SOURCE "/boards --board pi-5 board show");
    EXPECT_NE(r.out.find("PIN11    pinctrl-rp1:17"), std::string::npos) << r.out;
    r = shell(slmctl_path() + " board check " SLMD_SOURCE "/boards/*.toml");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(std::count(r.out.begin(), r.out.end(), '\n'), 10);
    write_file("bad.toml", "title = \"X\"\ncompatible = \"a,b\"\ncolour = 1\n");
    r = shell(slmctl_path() + " board check " + folder() + "/bad.toml");
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("bad.toml:3: unknown key \"colour\""), std::string::npos) << r.err;
    EXPECT_EQ(shell(slmctl_path() + " board").code, 64);
    EXPECT_EQ(shell(slmctl_path() + " hw record").code, 64);
}

// A day on a bad board in half a minute: every sensor fails now and then, lines go and come back, the supply sags,
// memory is short; and people go on asking.
TEST(Day, of_faults_leaks_nothing_and_ends_well) {
    const std::string script =
        std::string("speed 2880\nseed 11\nloop 7200\n") + lines_there +
        "0 power.undervoltage 0\n0 memory.total 1024\n0 memory.available 300\n"
        "0 memory.pressure 0\n0 storage.free 100\n0 cpu.max 2400\n0 cpu.cap 2400\n0 power.watts 4\n"
        "600 thermal 84 over 600\n1500 thermal 55 over 600\n2400 power.undervoltage 1\n"
        "2500 power.undervoltage 0\n3000 gpio.DOOR 1\n3001 gpio.DOOR 0\n3600 memory.pressure 60\n"
        "3700 memory.pressure 0\n4000 gpio.SWITCH open\n4400 gpio.SWITCH 0\n5000 cpu.cap 1500\n"
        "5100 cpu.cap 2400\n6000 gpio.NOTE 1\n6600 gpio.NOTE 0\n"
        "random fail thermal every 900 for 60\nrandom fail gpio.DOOR gone every 1800 for 120\n"
        "random fail gpio.RELAY every 2400 for 30\nrandom fail gpio.LOCK gone every 2400 for 60\n"
        "random fail gpio.SWITCH gone every 3600 for 300\nrandom fail gpio.BUSY busy every 3600 for 100\n"
        "random fail led every 3000 for 30\nrandom fail power.watts every 700 for 20\n"
        "random fail memory.available every 800 for 20\nrandom fail serial every 600 for 60\n"
        "random fail cpu.max every 900 for 30\nrandom fail power.undervoltage every 900 for 30\n";
    const std::string state = folder() + "/day.state";
    mkdir(state.c_str(), 0700);
    auto a = board("day", pins, script);
    a.insert(a.end(), {"--state", state});
    Daemon d({.arguments = a});
    const auto hours = [&] {
        const auto all = lines("day");
        return all.empty() ? 0 : all.back().ms / 3.6e6;
    };
    const auto ask = [&](const std::string& prompt) -> std::string {
        Wire w = d.connect();
        w.call("gpio", {{"name", "relay"}, {"value", 1}, {"ms", 400}});
        w.call("evt", {{"mask", 7}});
        const json r = w.call("gen", {{"prompt", prompt}}, 2);
        if (r.contains("error")) return std::to_string(r["error"]["code"].get<int>());
        return r["result"].value("text", "");
    };
    int good = 0, refused = 0, other = 0;
    std::size_t open_files = 0;
    long memory = 0;
    for (int i = 0; hours() < 24 && d.alive(); i++) {
        const std::string r = ask("What is the capital of France?");
        (r == "The capital of France is Paris." ? good : r == "265" || r == "20" ? refused : other)++;
        if (i == 5) open_files = descriptors(d.pid()), memory = pss_kib(d.pid(), "Pss_Anon:");
        usleep(10'000);
    }
    ASSERT_TRUE(d.alive()) << slurp(d.log);
    EXPECT_GT(good, 10);
    EXPECT_EQ(other, 0);
    // what only a fault has closed for the moment is not leaked: wait for a moment without one
    std::size_t now = 0;
    for (int i = 0; i < 200; i++) {
        ask("Hi");
        now = descriptors(d.pid());
        if (now <= open_files) break;
        usleep(20'000);
    }
    EXPECT_LE(now, open_files);
    if (!sanitized) {
        EXPECT_GT(memory, 0);
        EXPECT_LE(pss_kib(d.pid(), "Pss_Anon:"),
                  memory + 512);  // program and libraries are shared with others that run
    }
    const std::string log = slurp(d.log);
    int lost = 0;
    for (std::size_t at = 0; (at = log.find("the line is lost", at)) != std::string::npos; at++) lost++;
    EXPECT_GT(lost, 10);
    std::printf("24 h: %d answers, %d refused, %d lines lost and found, %zu descriptors, PSS %+ld KiB\n", good, refused,
                lost, now, pss_kib(d.pid(), "Pss_Anon:") - memory);
}
