// Lines, LED and governor on a simulated board, with a host that answers at once.
#include "daemon/machine.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "hal/sim/sim.h"

namespace slmd::daemon {
namespace {

using hal::sim::Fault;
using hal::sim::Sensor;
using hal::sim::Sim;

struct FakeHost final : wire::Host {
    std::vector<std::string> asked;
    std::string answer = "yes";
    std::size_t taken = 0;
    bool busy = false, failed = false;
    int live = 0;
    wire::Outcome outcome;
    Result<int> submit(const wire::Request& r) override {
        if (busy) return Error::make(Code::busy, "busy");
        asked.emplace_back(r.turns.back().text);
        taken = 0;
        live++;
        return 0;
    }
    wire::View view(int) override {
        wire::View v;
        v.state = wire::View::finished;
        v.text = std::string_view(answer).substr(taken);
        outcome.failed = failed;
        outcome.error = Error::make(Code::deadline, "too late");
        v.outcome = &outcome;
        return v;
    }
    void take(int, std::size_t n) override { taken += n; }
    void release(int) override { live--; }
    wire::Status status() override { return {}; }
    wire::ModelInfo model() override { return {}; }
    std::span<const wire::PlanItem> plan() override { return {}; }
    std::span<const wire::AgentInfo> agents() override { return {}; }
    std::span<const wire::AdapterInfo> adapters() override { return {}; }
    std::span<const wire::QueueInfo> queue() override { return {}; }
    std::span<const wire::BudgetInfo> budget() override { return {}; }
    Result<void> drop(std::string_view) override { return {}; }
    std::span<const wire::HardwareItem> hardware() override { return {}; }
    std::span<const wire::PinState> pins() override { return {}; }
    Result<void> drive(std::string_view, bool, int) override { return {}; }
};

class Pins : public ::testing::Test {
  protected:
    Pins() {
        char name[] = "/tmp/slmd-machine-XXXXXX";
        folder = mkdtemp(name);
        hal::sim::Script script;
        script.lines = {"DOOR", "SWITCH", "BUSY", "RELAY", "LAMP", "LOCK", "STATUS"};
        sim = std::move(Sim::open(std::move(script), true)).value();
        sim->tell(Sensor::temperature, 50);
        sim->tell(Sensor::throttle, 80);
        for (const char* const line : {"DOOR", "LOCK"}) sim->wire(line, 0);
        snprintf(config.state, sizeof config.state, "%s", folder.c_str());
        pin(config.pins.busy, "BUSY");
        pin(config.pins.privacy, "SWITCH");
        config.pins.privacy.active_low = true;
        config.pins.privacy.pull = hal::Pull::up;
        auto& t = config.triggers[config.trigger_count++];
        strcpy(t.name, "door"), strcpy(t.prompt, "who is there?");
        pin(t.pin, "DOOR");
        for (const char* const n : {"relay", "lamp"}) {
            auto& o = config.outputs[config.output_count++];
            strcpy(o.name, n);
        }
        pin(config.outputs[0].pin, "RELAY");
        pin(config.outputs[0].interlock, "LOCK");
        pin(config.outputs[1].pin, "LAMP");
        config.outputs[0].max_pulse_ms = 500, config.outputs[0].per_minute = 3;
        config.outputs[1].max_pulse_ms = 0;
    }
    ~Pins() override { std::filesystem::remove_all(folder); }
    static void pin(PinConfig& p, const char* line) { strcpy(p.line, line); }

    void start() {
        machine.emplace(config, *sim, host);
        machine->open();
        machine->set_full(4, 32);
        said();
    }
    // Time passes, as the event loop lets it.
    void pass(std::uint64_t ms, Machine::Work work = {}) {
        const std::uint64_t until = sim->now_ms() + ms;
        for (;;) {
            machine->edges();
            const int wait = machine->tick(work);
            const std::uint64_t left = until - sim->now_ms();
            if (left == 0) break;
            sim->advance(std::min<std::uint64_t>(wait < 0 ? left : std::max(1, wait), left));
        }
    }
    std::string said() {
        std::string out;
        wire::Event e;
        for (int to; machine->next_event(e, to);) {
            out += std::string(e.name) + (e.subject[0] != 0 ? " " : "") + e.subject;
            if (e.text[0] != 0)
                out += std::string(" '") + e.text + "'";
            else
                out += " " + std::to_string(static_cast<int>(e.value));
            if (to >= 0) out += " to tty" + std::to_string(to);
            out += "\n";
        }
        return out;
    }

    std::string folder;
    Config config;
    std::unique_ptr<Sim> sim;
    FakeHost host;
    std::optional<Machine> machine;
};

TEST_F(Pins, AnEdgeAsksAndBouncesDoNot) {
    start();
    pass(100);
    for (int i = 0; i < 7; i++) {  // bounces of 5 ms, then it stays
        sim->wire("DOOR", i % 2 == 0);
        pass(5);
    }
    pass(14);
    EXPECT_TRUE(host.asked.empty()) << "before 20 ms of rest";
    pass(10);
    EXPECT_EQ(host.asked, (std::vector<std::string>{"who is there?"}));
    EXPECT_EQ(said(), "PIN door 1\nTRIG door 'yes'\n");
    sim->wire("DOOR", 0);
    pass(100);
    EXPECT_EQ(said(), "PIN door 0\n");  // only a rising edge asks
    EXPECT_EQ(host.asked.size(), 1u);
    EXPECT_EQ(host.live, 0);
    sim->wire("DOOR", 1);  // a spike
    pass(10);
    sim->wire("DOOR", 0);
    pass(100);
    EXPECT_EQ(host.asked.size(), 1u);
}

TEST_F(Pins, AQuestionWaitsWhileThereIsNoRoom) {
    config.triggers[0].when = TriggerConfig::both;
    strcpy(config.triggers[0].to, "tty1");
    start();
    host.busy = true;
    sim->wire("DOOR", 1);
    pass(5000);
    EXPECT_TRUE(host.asked.empty());
    host.busy = false;
    pass(300);
    EXPECT_EQ(host.asked.size(), 1u);
    EXPECT_EQ(said(), "PIN door 1\nTRIG door 'yes' to tty1\n");
    host.failed = true;
    sim->wire("DOOR", 0);
    pass(100);
    EXPECT_EQ(said(), "PIN door 0\nTRIG door -264\n");
}

TEST_F(Pins, AnAnswerGoesIntoAFile) {
    strcpy(config.triggers[0].to, "file");
    host.answer = std::string(3000, 'x');
    start();
    sim->wire("DOOR", 1);
    pass(100);
    std::ifstream f(folder + "/triggers/door");
    const std::string text{std::istreambuf_iterator<char>(f), {}};
    EXPECT_EQ(text, std::string(1024, 'x'));
    EXPECT_EQ(said(), "PIN door 1\n");
}

TEST_F(Pins, PrivacyIsCutWhenTheWireIsOpenOrTheChipGone) {
    start();
    pass(100);
    EXPECT_TRUE(machine->cut());  // nothing is connected
    sim->wire("SWITCH", 0);
    pass(1);
    EXPECT_FALSE(machine->cut());
    sim->wire("SWITCH", -1);
    pass(1);
    EXPECT_TRUE(machine->cut());
    sim->wire("SWITCH", 0);
    pass(1);
    EXPECT_EQ(said(), "PIN privacy 1\nPIN privacy 0\nPIN privacy 1\n");
    sim->fail_line("SWITCH", Fault::gone, 5000);
    pass(1);
    EXPECT_TRUE(machine->cut());
    EXPECT_EQ(said(), "PIN privacy -1\n");
    pass(4000);
    EXPECT_TRUE(machine->cut());
    pass(5000);
    EXPECT_FALSE(machine->cut());  // it came back, and says yes
    EXPECT_EQ(said(), "PIN privacy 1\n");
}

TEST_F(Pins, NoSwitchConfiguredIsNotCut) {
    config.pins.privacy = {};
    start();
    EXPECT_FALSE(machine->cut());
}

TEST_F(Pins, OutputsKeepTheirLimits) {
    start();
    pass(10);
    EXPECT_EQ(sim->level("RELAY"), 0);
    EXPECT_EQ(machine->drive("fan", true, 10).error().code, Code::not_found);
    EXPECT_EQ(machine->drive("relay", true, 100).error().code, Code::not_allowed);  // its interlock is open
    sim->wire("LOCK", 1);
    pass(1);
    EXPECT_EQ(machine->drive("relay", true, 0).error().code, Code::incorrect_parameters);
    EXPECT_EQ(machine->drive("relay", true, 501).error().code, Code::incorrect_parameters);
    ASSERT_TRUE(machine->drive("relay", true, 100));
    EXPECT_EQ(sim->level("RELAY"), 1);
    pass(99);
    EXPECT_EQ(sim->level("RELAY"), 1);
    pass(1);
    EXPECT_EQ(sim->level("RELAY"), 0);
    ASSERT_TRUE(machine->drive("relay", true, 100));
    ASSERT_TRUE(machine->drive("relay", true, 100));
    EXPECT_EQ(machine->drive("relay", true, 100).error().code, Code::busy);  // 3 a minute
    pass(60'000);
    ASSERT_TRUE(machine->drive("relay", true, 400));
    sim->wire("LOCK", 0);  // opens in the middle
    pass(1);
    EXPECT_EQ(sim->level("RELAY"), 0);
    ASSERT_TRUE(machine->drive("lamp", true, 0));  // may stay on
    pass(100'000);
    EXPECT_EQ(sim->level("LAMP"), 1);
    ASSERT_TRUE(machine->drive("lamp", false, 0));
    EXPECT_EQ(sim->level("LAMP"), 0);
    ASSERT_TRUE(machine->drive("lamp", true, 0));
    machine.reset();
    EXPECT_EQ(sim->level("LAMP"), -1);  // off, then given back
}

TEST_F(Pins, OutputsArePulsedSeveralTimes) {
    start();
    sim->wire("LOCK", 1);
    pass(1);
    const auto edges = [&](int ms) {  // of RELAY, from now on
        std::string all;
        int level = sim->level("RELAY");
        for (int i = 0; i < ms; i++) {
            pass(1);
            if (const int now = sim->level("RELAY"); now != level)
                all += (level = now) ? "+" + std::to_string(i + 1) : "-" + std::to_string(i + 1);
        }
        return all;
    };
    EXPECT_EQ(machine->drive("relay", true, 100, 4).error().code, Code::busy);  // 3 a minute
    ASSERT_TRUE(machine->drive("relay", true, 100, 3));
    EXPECT_EQ(sim->level("RELAY"), 1);
    EXPECT_EQ(edges(1000), "-100+200-300+400-500");
    EXPECT_EQ(machine->drive("relay", true, 100).error().code, Code::busy);
    pass(60'000);
    ASSERT_TRUE(machine->drive("relay", true, 100, 3));
    ASSERT_TRUE(machine->drive("relay", false, 0));  // the others are not made
    EXPECT_EQ(edges(1000), "");
    ASSERT_TRUE(machine->drive("relay", true, 100, 2));
    pass(150);
    sim->wire("LOCK", 0);  // in the pause: neither
    pass(1);
    sim->wire("LOCK", 1);
    EXPECT_EQ(edges(1000), "");
}

TEST_F(Pins, AnOutputIsOffWhenItsInterlocksChipGoes) {
    start();
    sim->wire("LOCK", 1);
    pass(1);
    ASSERT_TRUE(machine->drive("relay", true, 500));
    sim->fail_line("LOCK", Fault::gone, 10'000);
    pass(1);
    EXPECT_EQ(sim->level("RELAY"), 0);
    EXPECT_EQ(machine->drive("relay", true, 100).error().code, Code::not_allowed);
    pass(13'000);
    EXPECT_TRUE(machine->drive("relay", true, 100));
}

TEST_F(Pins, ALineThatAnotherProgramHoldsIsTriedAgain) {
    sim->fail_line("LAMP", Fault::busy, 7000);
    machine.emplace(config, *sim, host);
    machine->open();
    EXPECT_EQ(said(), "PIN privacy 0\nPIN door 0\nPIN lamp -1\nPIN LOCK 0\n");
    EXPECT_EQ(machine->drive("lamp", true, 0).error().code, Code::device_io);
    pass(6000);
    EXPECT_EQ(said(), "");  // said once
    EXPECT_EQ(machine->drive("lamp", true, 0).error().code, Code::device_io);
    pass(3000);
    EXPECT_TRUE(machine->drive("lamp", true, 0));
}

TEST_F(Pins, BusyLineAndLed) {
    pin(config.pins.status, "ACT");
    start();
    pass(10);
    EXPECT_TRUE(sim->led_on());
    EXPECT_EQ(sim->level("BUSY"), 0);
    pass(1, {.busy = true});
    EXPECT_EQ(sim->level("BUSY"), 1);
    const auto pattern = [&](Machine::Work work) {
        std::string p;
        pass(0, work);
        for (int i = 0; i < 16; i++) {
            pass(62, work);
            p += sim->led_on() ? '#' : '.';
            pass(63, work);
        }
        return p;
    };
    EXPECT_EQ(pattern({.busy = true}).substr(0, 8), "#.#.#.#.");
    pass(125, {});
    EXPECT_EQ(pattern({}), "################");
    EXPECT_EQ(pattern({.loading = true}), "##......##......");
    sim->tell(Sensor::temperature, 82);
    pass(12'000, {});
    EXPECT_EQ(said(), "THERM 82\nTHERM 82\n");
    EXPECT_NE(pattern({}).find("#.#....."), std::string::npos);
    sim->fail_line("DOOR", Fault::gone, 60'000);
    pass(1, {});
    EXPECT_NE(pattern({}).find("#.#.#..."), std::string::npos);
    machine.reset();
    EXPECT_FALSE(sim->led_on());
}

TEST_F(Pins, AStatusThatIsNoLedIsALine) {
    pin(config.pins.status, "STATUS");
    start();
    pass(10);
    EXPECT_EQ(sim->level("STATUS"), 1);
}

TEST_F(Pins, IdleMeansIdle) {
    pin(config.pins.status, "ACT");
    start();
    pass(10);
    int ticks = 0;
    for (std::uint64_t end = sim->now_ms() + 60'000; sim->now_ms() < end; ticks++)
        sim->advance(static_cast<std::uint64_t>(machine->tick({})));
    EXPECT_LE(ticks, 7);
}

TEST_F(Pins, HeatComesInSteps) {
    start();
    pass(2000, {.busy = true});
    sim->tell(Sensor::temperature, 79);
    pass(4000, {.busy = true});
    EXPECT_EQ(machine->effort().threads, 2);
    sim->tell(Sensor::undervoltage, 1);
    pass(1000, {.busy = true});
    EXPECT_NE(said().find("THERM 79"), std::string::npos);
    const auto items = machine->hardware();
    bool seen = false;
    for (const auto& i : items)
        if (std::string_view(i.name) == "threads") {
            seen = true;
            EXPECT_LE(i.values[0], 2);
            EXPECT_EQ(i.values[1], 4);
        }
    EXPECT_TRUE(seen);
}

TEST_F(Pins, TheWatchdogIsFedOnlyByWhoAsks) {
    config.board.watchdog = 12;
    start();
    EXPECT_EQ(machine->watchdog_ms(), 4000);
    pass(60'000);
    EXPECT_EQ(sim->fed(), 0u);
    machine->feed();
    EXPECT_EQ(sim->fed(), 1u);
}

}  // namespace
}  // namespace slmd::daemon
