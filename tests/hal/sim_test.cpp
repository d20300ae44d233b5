// Simulated boards, and traces: recorded, then played.
#include "hal/sim/sim.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "hal/replay/trace.h"
#include "tree.h"

namespace slmd::hal::sim {
namespace {

using slmd::testing::Tree;

std::unique_ptr<Sim> simulate(const std::string& text) {
    Tree t;
    t.put("x.sim", text);
    auto script = read_script(t.path("x.sim").c_str(), true);
    if (!script) ADD_FAILURE() << script.error().text;
    return std::move(Sim::open(std::move(script).value(), true)).value();
}

bool readable(int fd) {
    pollfd p{fd, POLLIN, 0};
    return poll(&p, 1, 100) == 1;
}

TEST(Script, SaysWhereItIsWrong) {
    const struct {
        const char *text, *message;
        bool faults = true;
    } cases[] = {{"0 thermal\n", "x:1: a number is missing"},
                 {"\n0 thermal hot\n", "x:2: not a number"},
                 {"0 termal 45\n", "x:1: no such sensor"},
                 {"0 gpio.A 2\n", "x:1: not a number, or out of range"},
                 {"0 fail\n", "x:1: the name of a sensor"},
                 {"0 led 1\n", "x:1: it has no value"},
                 {"0 thermal 45 soon\n", "x:1: too much on this line: \"soon\""},
                 {"dance\n", "x:1: not understood: \"dance\""},
                 {"random fail led every 5\n", "x:1: for SECONDS is missing"},
                 {"random fail led every 0 for 1\n", "x:1: more than 0"},
                 {"loop 5\n6 thermal 1\n", "events after it"},
                 {"0 thermal 45 over 3\n", "x:1: too much on this line", false},
                 {"0 fail thermal\n", "x:1: no such sensor", false},
                 {"speed 10\n", "x:1: not understood", false}};
    for (const auto& c : cases) {
        Tree t;
        t.put("x", c.text);
        const auto s = read_script(t.path("x").c_str(), c.faults);
        ASSERT_FALSE(s) << c.text;
        EXPECT_NE(std::string(s.error().text).find(c.message), std::string::npos)
            << s.error().text << " for " << c.text;
    }
    EXPECT_EQ(read_script("/no/such", true).error().code, Code::storage_failure);
}

TEST(Sim, ValuesRampsAndFaults) {
    auto s = simulate("0 thermal 45\n10 thermal 85 over 40\n60 fail thermal for 5\n70 fail thermal gone\n");
    EXPECT_EQ(s->thermal().temperature().value(), 45000);
    s->advance(30'000);
    EXPECT_EQ(s->thermal().temperature().value(), 65000);
    s->advance(29'999);
    EXPECT_EQ(s->thermal().temperature().value(), 85000);
    s->advance(1);
    EXPECT_EQ(s->thermal().temperature().error().code, Code::device_io);
    s->advance(5000);
    EXPECT_EQ(s->thermal().temperature().value(), 85000);
    s->advance(5000);
    EXPECT_EQ(s->thermal().temperature().error().code, Code::not_found);
    EXPECT_EQ(s->power().undervoltage().error().code, Code::not_found);  // the script says nothing of it
}

TEST(Sim, ARampCanBeCutShort) {
    auto s = simulate("0 thermal 40\n0 thermal 80 over 40\n20 thermal 50 over 10\n");
    s->advance(25'000);
    EXPECT_EQ(s->thermal().temperature().value(), 55000);
}

TEST(Sim, LinesEdgesAndOpenWires) {
    auto s = simulate("0 gpio.A 0\n0 gpio.B open\n0 gpio.OUT open\n1 gpio.A 1\n1.5 gpio.A 1\n2 gpio.A 0\n");
    LineConfig a, b, out;
    a.name = "A", a.edges = true;
    b.name = "B", b.pull = Pull::up, b.active_low = true;
    out.name = "OUT", out.output = true;
    Gpio& g = s->gpio();
    const int la = g.request(a).value(), lb = g.request(b).value(), lo = g.request(out).value();
    EXPECT_EQ(g.request(a).error().code, Code::busy);
    a.name = "C";
    EXPECT_EQ(g.request(a).error().code, Code::not_found);
    EXPECT_FALSE(g.get(lb).value());  // the pull-up holds an open wire high: inactive
    s->wire("B", 0);
    EXPECT_TRUE(g.get(lb).value());
    EXPECT_EQ(s->level("OUT"), 0);
    ASSERT_TRUE(g.set(lo, true));
    EXPECT_EQ(s->level("OUT"), 1);
    Edge e[8];
    EXPECT_EQ(g.edges(e).value(), 0);
    s->advance(3000);
    ASSERT_TRUE(readable(g.fd()));
    ASSERT_EQ(g.edges(e).value(), 2);  // 1 to 1 is no edge
    EXPECT_EQ(e[0].line, la);
    EXPECT_TRUE(e[0].active);
    EXPECT_EQ(e[0].ns, 1'000'000'000);
    EXPECT_FALSE(e[1].active);
    g.release(lo);
    EXPECT_EQ(s->level("OUT"), -1);
}

TEST(Sim, AChipThatGoesAndComesBack) {
    auto s = simulate("0 gpio.A 1\n");
    LineConfig a;
    a.name = "A", a.edges = true;
    int line = s->gpio().request(a).value();
    s->fail_line("A", Fault::gone, 10'000);
    Edge e[2];
    EXPECT_EQ(s->gpio().get(line).error().code, Code::device_io);
    EXPECT_EQ(s->gpio().edges(e).error().code, Code::device_io);
    s->gpio().release(line);
    EXPECT_EQ(s->gpio().request(a).error().code, Code::not_found);
    s->advance(10'000);
    line = s->gpio().request(a).value();
    EXPECT_TRUE(s->gpio().get(line).value());
}

TEST(Sim, LoopsAndRandomFaultsComeBackTheSame) {
    const char* const text =
        "loop 10\n0 thermal 40\n5 thermal 50\nseed 5\nrandom fail power.watts every 20 for 5\n0 power.watts 2\n";
    const auto pattern = [&] {
        auto s = simulate(text);
        std::string p;
        for (int i = 0; i < 200; i++) {
            EXPECT_EQ(s->thermal().temperature().value(), i % 10 < 5 ? 40000 : 50000) << i;
            p += s->power().microjoules() ? '.' : 'x';
            s->advance(1000);
        }
        return p;
    };
    const std::string first = pattern();
    EXPECT_EQ(first, pattern());
    EXPECT_GT(std::count(first.begin(), first.end(), 'x'), 5);
    EXPECT_GT(std::count(first.begin(), first.end(), '.'), 100);
}

TEST(Sim, EnergyIsPowerTimesTime) {
    auto s = simulate("0 power.watts 2\n10 power.watts 5\n");
    EXPECT_EQ(s->power().microjoules().value(), 0u);
    s->advance(10'000);
    s->power().microjoules().value();
    s->advance(2'000);
    EXPECT_EQ(s->power().microjoules().value(), 30'000'000u);
}

TEST(Trace, WhatIsRecordedPlaysTheSame) {
    auto s = simulate(
        "board pi-5\nmodel Raspberry Pi 5\n0 thermal 45\n0 power.undervoltage 0\n0 gpio.A 0\n"
        "3 thermal 52.5\n4.5 gpio.A 1\n6 power.undervoltage 1\n0 memory.total 1024\n"
        "0 memory.available 512\n0 memory.pressure 0\n");
    Tree t;
    t.put("trace", "");
    const int out = open(t.path("trace").c_str(), O_WRONLY | O_CLOEXEC);
    const char* const lines[] = {"A", "NONE"};
    auto r = Recorder::open(*s, lines, out);
    ASSERT_TRUE(r) << r.error().text;
    EXPECT_EQ(r->lines(), 1);
    for (int i = 0; i < 9; i++) {
        ASSERT_TRUE(r->sample());
        s->advance(1000);
    }
    close(out);
    const std::string trace = t.get("trace");
    EXPECT_NE(trace.find("\n3.000 thermal 52.5\n"), std::string::npos) << trace;
    EXPECT_NE(trace.find("\n4.500 gpio.A 1\n"), std::string::npos) << trace;
    EXPECT_NE(trace.find("# GPIO line NONE"), std::string::npos) << trace;
    auto script = read_script(t.path("trace").c_str(), false);
    ASSERT_TRUE(script) << script.error().text;
    auto played = std::move(Sim::open(std::move(script).value(), true)).value();
    EXPECT_STREQ(played->board().identity().name, "pi-5");
    EXPECT_STREQ(played->board().identity().model, "Raspberry Pi 5");
    for (int i = 0; i < 9; i++) {
        EXPECT_EQ(played->thermal().temperature().value(), i < 3 ? 45000 : 52500) << i;
        EXPECT_EQ(played->power().undervoltage().value(), i >= 6) << i;
        EXPECT_EQ(played->board().memory()->available, 512u << 20);
        played->advance(1000);
    }
}

}  // namespace
}  // namespace slmd::hal::sim
