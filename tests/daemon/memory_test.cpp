// Fixed memory: nothing is allocated after READY, and what is used is what was planned.
#include <regex>

#include "adapters.h"
#include "systemd.h"

using namespace slmd::testing;

namespace {

// Agents of each kind of answer, with checks, one of which asks again.
std::string agents_folder() {
    const std::string path = folder() + "/agents";
    std::filesystem::create_directory(path);
    std::ofstream(path + "/chooser.toml")
        << "prompt = '{x} Yes or no?'\ninput.x = {}\noutput = { choice = ['yes', 'no'] }\n"
           "[[check]]\nkind = 'agree'\nprompt = 'Yes or no: {x}'\n";
    std::ofstream(path + "/taker.toml")
        << "prompt = '{x} Which word?'\ninput.x = {}\n[output]\nschema = '{\"type\":\"object\",\"required\":[\"a\"],"
           "\"properties\":{\"a\":{\"type\":\"string\",\"from\":\"source\",\"minLength\":1,\"maxLength\":9}}}'\n"
           "[[check]]\nkind = 'source'\nat = '/a'\n[[check]]\nkind = 'regex'\nat = '/a'\npattern = '[A-Za-z ]+'\n";
    std::ofstream(path + "/writer.toml")
        << "prompt = '{x}'\ninput.x = {}\noutput = { text = 20 }\n[[check]]\nkind = 'quotes'\n";
    return path;
}

// Streams at least 1,000 tokens, half on the socket and half on the serial line, with all verbs in between.
int stream_a_thousand(Daemon& d) {
    int tokens = 0;
    Wire w = d.connect();
    const json params = {{"prompt", "Say something."},
                         {"max", 100},
                         {"bias", endless()},
                         {"stream", true},
                         {"temp", 0.8},
                         {"seed", 3},
                         {"progress", true}};
    d.tty.send("ATE0\rAT#SET=\"bias\",\"" + endless() + "\"\r");
    d.tty.until("\r\nOK\r\n"), d.tty.until("\r\nOK\r\n");
    json labels = json::array();
    for (int i = 0; i < 300; i++) labels.push_back("label " + std::to_string(i));
    for (int round = 0; round < 5; round++) {
        w.send(json{{"jsonrpc", "2.0"}, {"id", round}, {"method", "gen"}, {"params", params}}.dump() + "\n");
        d.tty.send("AT#GEN=\"Count to ten.\",100\r");
        std::string text;
        tokens += w.reply(round, &text)["result"].value("tokens", 0);
        const std::string closing = d.tty.until("\r\nOK\r\n");
        std::smatch m;
        if (std::regex_search(closing, m, std::regex("#GEN: \"[a-z]+\",\\d+,(\\d+)"))) tokens += std::stoi(m[1]);
        for (const char* method : {"stat", "plan", "help", "rpc.discover", "ctx", "model", "info", "set"})
            w.call(method);
        w.call("chat", {{"prompt", "Hi"}, {"max", 5}}), w.call("nonsense");
        w.call("cls", {{"prompt", "Hi"}, {"labels", labels}, {"none", true}});
        w.call("gen", {{"prompt", "Hi"},
                       {"max", 60},
                       {"temp", 1.5},
                       {"schema",
                        {{"type", "object"},
                         {"properties", {{"a", {{"type", "string"}, {"pattern", "^x*$"}}}}},
                         {"required", {"a"}}}}});
        w.call("gen", {{"prompt", "Hi"}, {"regex", "(a|b){3,9}"}});
        for (const char* agent : {"chooser", "taker", "writer"})
            EXPECT_TRUE(w.call("run", {{"agent", agent}, {"input", "Paris and Rome"}}).contains("result"));
        w.call("agent"), w.call("ext", {{"prompt", "Hi"}, {"schema", {{"type", "integer"}}}, {"max", 9}});
        d.tty.send("AT#CLS=\"Yes or no?\",\"yes|no|yes and no\"\r");
        d.tty.until("#CLS: "), d.tty.until("\r\nOK\r\n");
        d.tty.send("AT#STAT?\rAT#HELP\rAT#PLAN?\rnoise \xff\rAT#GEN=5\r");
        for (int i = 0; i < 3; i++) d.tty.until("\r\nOK\r\n");
        d.tty.until("+CME ERROR: 50\r\n");
    }
    return tokens;
}

}  // namespace

TEST(Memory, a_thousand_streamed_tokens_allocate_nothing) {
    if (sanitized) GTEST_SKIP() << "the sanitizers have their own allocator: run this test in the release build";
    const std::string report = folder() + "/counts";
    Daemon d({.arguments = {"--draft-model", tiny_image(), "--agents", agents_folder()},
              .environment = {"LD_PRELOAD=" SLMD_MALLOC_COUNT, "MALLOC_COUNT=" + report}});
    EXPECT_EQ(slurp(report).find("counts"), std::string::npos);
    kill(d.pid(), SIGUSR2);
    EXPECT_GE(stream_a_thousand(d), 1000);
    kill(d.pid(), SIGUSR2);
    std::string counts;
    for (int i = 0; i < 500 && counts.find("counts") == std::string::npos; i++) usleep(10'000), counts = slurp(report);
    EXPECT_EQ(counts, "counts 0 0 0 0\n");
}

// A request under another adapter than the last one reads its prompt anew, and takes nothing.
TEST(Memory, ten_thousand_switches_of_adapters_allocate_nothing) {
    if (sanitized) GTEST_SKIP() << "the sanitizers have their own allocator: run this test in the release build";
    const std::string report = folder() + "/switches";
    std::vector<std::string> arguments;
    for (unsigned i = 1; i <= 8; i++)
        arguments.insert(arguments.end(), {"--adapter", "a" + std::to_string(i) + "=" + adapter_image(i)});
    Daemon d({.arguments = arguments,
              .environment = {"LD_PRELOAD=" SLMD_MALLOC_COUNT, "MALLOC_COUNT=" + report},
              .tty = false});
    Wire w = d.connect();
    const auto answer = [&](int i) {
        const json params = {{"prompt", "The"}, {"raw", true}, {"max", 1}, {"bias", endless()}};
        json with = params;
        if (i % 9 != 8) with["adapter"] = "a" + std::to_string(i % 9 + 1);
        return w.call("gen", with)["result"].value("text", "(no text)");
    };
    std::vector<std::string> first;
    for (int i = 0; i < 9; i++) first.push_back(answer(i));
    // Its own pages: of those that it shares with another slmd it has more as soon as that one ends.
    const long before = pss_kib(d.pid(), "Pss_Anon:");
    kill(d.pid(), SIGUSR2);
    int same = 0;
    for (int i = 0; i < 10000; i++) same += answer(i) == first[static_cast<std::size_t>(i % 9)];
    EXPECT_EQ(same, 10000);
    kill(d.pid(), SIGUSR2);
    std::string counts;
    for (int i = 0; i < 500 && counts.find("counts") == std::string::npos; i++) usleep(10'000), counts = slurp(report);
    EXPECT_EQ(counts, "counts 0 0 0 0\n");
    const long after = pss_kib(d.pid(), "Pss_Anon:");
    EXPECT_GT(before, 1000);
    std::printf("%ld KiB before, %ld after\n", before, after);
    EXPECT_LE(after, before + 64);  // stacks and tables that the first requests did not touch
}

// How often the threads gave up their core of their own accord, and the clock ticks that they used, so far.
std::pair<long, long> activity(pid_t pid) {
    std::pair<long, long> sum{0, 0};
    for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
        std::ifstream status(task.path() / "status");
        for (std::string line; std::getline(status, line);)
            if (line.rfind("voluntary_ctxt_switches:", 0) == 0) sum.first += std::stol(line.substr(24));
        const std::string stat = slurp(task.path() / "stat");
        std::istringstream fields(stat.substr(stat.rfind(')') + 1));
        std::string word;
        for (int i = 0; i < 13 && fields >> word; i++)
            if (i == 11 || i == 12) sum.second += std::stol(word);
    }
    return sum;
}

// Between requests every thread sleeps: none gives up its core of its own accord more than once a second, and none uses
// any time.
TEST(Memory, idle_means_idle) {
    Daemon d({.arguments = {"--threads", "4", "--draft-model", tiny_image()}});
    EXPECT_FALSE(d.answer("What is the capital of France?").empty());
    sleep(1);
    constexpr int seconds = 5;
    const auto before = activity(d.pid());
    sleep(seconds);
    const auto after = activity(d.pid());
    EXPECT_GT(before.first, 0);
    EXPECT_LE(after.first - before.first, seconds);
    EXPECT_EQ(after.second - before.second, 0);
}

// The same for a minute with all that a board has: a serial line and a client, lines in and out, a status LED, the
// governor's look at heat and power, and systemd's watchdog.
TEST(Memory, idle_with_a_board_means_idle) {
    const std::string sim = folder() + "/idle.sim", config = folder() + "/idle.toml";
    std::ofstream(sim) << "board pi-5\n0 thermal 50\n0 thermal.throttle 80\n0 gpio.DOOR 0\n0 gpio.SWITCH 0\n0 "
                          "gpio.BUSY open\n0 gpio.RELAY open\n";
    std::ofstream(config) << "[board]\nhardware = \"sim:" << sim
                          << "\"\n[pins]\nstatus = \"ACT\"\nbusy = \"BUSY\"\nprivacy = \"SWITCH\"\n[[trigger]]\nname = "
                             "\"door\"\nline = \"DOOR\"\nprompt = "
                             "\"?\"\n[[output]]\nname = \"relay\"\nline = \"RELAY\"\n";
    const Systemd systemd;
    Daemon d({.arguments = {"--config", config}, .environment = systemd.environment("10000000")});
    const Wire client = d.connect();
    EXPECT_FALSE(d.answer("What is the capital of France?").empty());
    sleep(2);
    constexpr int seconds = 60;
    const auto before = activity(d.pid());
    sleep(seconds);
    const auto after = activity(d.pid());
    std::printf("in %d s: %ld wake-ups, %ld ticks of the clock\n", seconds, after.first - before.first,
                after.second - before.second);
    EXPECT_GT(after.first - before.first, 0) << "the watchdog was not fed";
    EXPECT_LE(after.first - before.first, seconds);
    EXPECT_LE(after.second - before.second, seconds * sysconf(_SC_CLK_TCK) / 1000);
}

// The same, as the kernel sees it; and that the counter above can count at all.
TEST(Memory, strace_sees_no_brk_and_no_mmap) {
    if (sanitized) GTEST_SKIP() << "the sanitizers have their own allocator: run this test in the release build";
    const std::string trace = folder() + "/trace";
    if (shell("strace -o /dev/null true").code != 0) GTEST_SKIP() << "strace is not installed or not allowed here";
    Daemon d({.arguments = {"--agents", agents_folder()},
              .before = {"strace", "-f", "--quiet=all", "-e", "trace=brk,mmap,mremap,munmap,madvise,write", "-s", "64",
                         "-o", trace}});
    EXPECT_GE(stream_a_thousand(d), 1000);
    const std::string all = slurp(trace);
    const std::size_t ready = all.find(" ready: ");
    ASSERT_NE(ready, std::string::npos);
    const std::regex memory("\\b(brk|mmap|mremap|madvise)\\(");
    const std::string before = all.substr(0, ready), after = all.substr(ready);
    EXPECT_TRUE(std::regex_search(before, memory));
    std::smatch m;
    EXPECT_FALSE(std::regex_search(after, m, memory)) << after.substr(static_cast<std::size_t>(m.position(0)), 200);
    // strace hands SIGTERM on to nobody: end the daemon itself, not its tracer
    for (const auto& e :
         std::filesystem::directory_iterator("/proc/" + std::to_string(d.pid()) + "/task/" + std::to_string(d.pid()))) {
        if (e.path().filename() != "children") continue;
        std::ifstream f(e.path());
        for (int child; f >> child;) kill(child, SIGTERM);
    }
    EXPECT_EQ(d.wait(), 0);
}

TEST(Memory, measured_is_planned_within_3_percent) {
    if (sanitized) GTEST_SKIP() << "the sanitizers need memory of their own: run this test in the release build";
    const char* const cache = getenv("SLMD_CACHE");
    const char* const xdg = getenv("XDG_CACHE_HOME");
    const std::string dir = cache != nullptr ? cache
                            : xdg != nullptr
                                ? std::string(xdg) + "/slmd"
                                : std::string(getenv("HOME") != nullptr ? getenv("HOME") : "") + "/.cache/slmd";
    const std::string source = dir + "/SmolLM2-135M-Instruct.Q4_1.gguf", image = folder() + "/smol.slm";
    if (access(source.c_str(), R_OK) != 0) GTEST_SKIP() << source << " is not there: toolchain/fetch-model gets it";
    ASSERT_EQ(shell(std::string(SLMD_BUILD) + "/slmpack import " + source + " -o " + image).code, 0);
    for (const bool streams : {false, true}) {
        std::vector<std::string> arguments;
        if (streams) arguments = {"--stream"};
        Daemon d({.arguments = arguments, .image = image});
        const std::string text = d.answer("What is the capital of France? Answer in one sentence.");
        EXPECT_EQ(text, "The capital of France is Paris.");
        Wire w = d.connect();
        const double planned = w.call("plan")["result"]["total"].get<double>(),
                     measured = 1024.0 * static_cast<double>(pss_kib(d.pid()));
        std::printf("planned %.0f, PSS %.0f bytes: %+.2f %%\n", planned, measured, (measured / planned - 1) * 100);
        EXPECT_LT(measured / planned - 1, 0.03);
        // Of a plan that is smaller by a third, what the program and the decoders do not touch is more.
        EXPECT_GT(measured / planned - 1, streams ? -0.05 : -0.03);
    }
}
