// Pipelines with agents that answer as the test says: order, branches, rules, failures in every step, limits.
#include "daemon/pipelines.h"

#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <map>

using namespace slmd;
using daemon::Pipelines;

namespace {

namespace fs = std::filesystem;

// What each agent answers; "!text": an error; "?": it is busy once; "...": never.
struct Scripted final : wire::Host {
    struct Job {
        std::string agent, input, answer;
        wire::Outcome outcome;
        std::size_t taken = 0;
        bool released = false;
    };
    std::map<std::string, std::string> says;
    std::map<std::string, float> sure;
    std::deque<Job> jobs;
    std::map<std::string, int> busy;
    Result<int> submit(const wire::Request& r) override {
        const std::string agent(r.agent);
        if (busy[agent] > 0) return busy[agent]--, Error::make(Code::busy, "busy");
        Job& job = jobs.emplace_back();
        job.agent = agent, job.input = r.turns.back().text, job.answer = says.contains(agent) ? says[agent] : "ok";
        wire::Outcome& o = job.outcome;
        o.finish = "stop", o.verdict = "pass", o.route = "keep", o.tokens = 5, o.prompt_tokens = 10;
        o.confidence = sure.contains(agent) ? sure[agent] : 0.9f;
        o.json = job.answer.starts_with('{');
        if (job.answer.starts_with("fail:")) o.verdict = "fail";
        if (job.answer.starts_with('!'))
            o.failed = true, o.error = Error::make(Code::deadline, "%s", job.answer.c_str() + 1);
        return static_cast<int>(jobs.size()) - 1;
    }
    wire::View view(int handle) override {
        Job& job = jobs.at(static_cast<std::size_t>(handle));
        wire::View v;
        if (job.answer == "...") return v;
        v.state = wire::View::finished;
        v.outcome = &job.outcome;
        if (!job.outcome.failed) v.text = std::string_view(job.answer).substr(job.taken, 7);  // in pieces
        return v;
    }
    void take(int handle, std::size_t bytes) override { jobs.at(static_cast<std::size_t>(handle)).taken += bytes; }
    void release(int handle) override { jobs.at(static_cast<std::size_t>(handle)).released = true; }
    wire::Status status() override { return {}; }
    wire::ModelInfo model() override { return {}; }
    std::span<const wire::PlanItem> plan() override { return {}; }
    std::span<const wire::HardwareItem> hardware() override { return {}; }
    std::span<const wire::PinState> pins() override { return {}; }
    std::span<const wire::AgentInfo> agents() override { return {}; }
    std::span<const wire::AdapterInfo> adapters() override { return {}; }
    std::span<const wire::QueueInfo> queue() override { return {}; }
    std::span<const wire::BudgetInfo> budget() override { return {}; }
    Result<void> drop(std::string_view) override { return {}; }
    Result<void> drive(std::string_view, bool, int) override { return {}; }
};

constexpr char ten_steps[] = R"(
description = "A message from the yard"
[limits]
steps = 12
[[step]]
name = "sort"
agent = "sort"
[[step.next]]
answer = "alarm"
to = ["where", "what"]
[[step.next]]
confidence_below = 0.5
to = "person"
[[step.next]]
answer = "order"
to = "order"
[[step.next]]
verdict = "error"
to = "person"
[[step]]
name = "where"
agent = "where"
input = "Where? {input}"
next = "both"
[[step]]
name = "what"
agent = "what"
input = "{input}"
[[step.next]]
at = "/bar"
above = 8
to = ["valve", "horn"]
[[step.next]]
to = "both"
[[step]]
name = "valve"
agent = "valve"
input = "{what/unit} of {what/list/1} at {what/bar}, {what/open}"
next = "both"
[[step]]
name = "horn"
agent = "horn"
next = "both"
[[step]]
name = "both"
agent = "both"
join = true
input = { place = "{where}", count = "{what/bar}", note = 'a "{sort}" { nothing }' }
next = "report"
[[step]]
name = "order"
agent = "order"
[[step.next]]
at = "/paid"
is = "false"
to = "person"
[[step.next]]
to = "report"
[[step]]
name = "person"
agent = "person"
input = "{input}"
next = "end"
[[step]]
name = "report"
agent = "report"
input = "{both}{order}"
next = "check"
[[step]]
name = "check"
agent = "check"
[[step.next]]
verdict = "fail"
to = "report"
)";

struct Bench {
    fs::path folder = fs::temp_directory_path() / ("slmd-pipelines-" + std::to_string(getpid()));
    std::vector<std::byte> block = std::vector<std::byte>(1 << 20), memory;
    agent::Set set{block};
    Pipelines pipelines;
    Scripted host;

    explicit Bench(const std::string& text = ten_steps) {
        fs::create_directory(folder);
        write("sort", "prompt = '{x}'\ninput.x = {}\noutput.choice = ['alarm', 'order', 'weather']\n");
        for (const char* name : {"where", "what", "valve", "horn", "order", "person", "report", "check"})
            write(name, "prompt = '{x}'\ninput.x = {}\noutput.text = 200\n");
        write("both",
              "prompt = '{place} {count} {note}'\ninput = { place = {}, count = { type = 'number' }, note = {} }\n"
              "output.text = 200\n");
        write("yard", text);
        const char* const folders[] = {folder.c_str()};
        EXPECT_TRUE(set.read(folders));
        Arena counting;
        pipelines.lay_out(counting);
        memory.resize(counting.used());
        Arena arena(memory);
        pipelines.lay_out(arena);
    }
    ~Bench() { fs::remove_all(folder); }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(folder / (name + ".toml")) << text;
    }
    int start(const char* input = "Unit 3 hisses") {
        const wire::Turn turn{false, input};
        wire::Settings settings;
        settings.deadline_ms = -1;
        const agent::Entry* const e = set.find("yard");
        EXPECT_EQ(e->error, "");
        const auto handle = pipelines.start(e->pipeline, set, {{&turn, 1}, &settings, false});
        EXPECT_TRUE(handle) << (handle ? "" : handle.error().what());
        return handle ? handle.value() : -1;
    }
    // Runs to its end; the names of the steps that were made, an error with a !.
    std::string run(const char* input = "Unit 3 hisses") {
        const int handle = start(input);
        std::string trail;
        for (int i = 0; i < 100 && pipelines.view(handle).state != wire::View::finished; i++) pipelines.advance(host);
        const wire::View v = pipelines.view(handle);
        if (v.state != wire::View::finished) return "it does not end";
        for (const wire::StepResult& s : v.outcome->steps)
            trail += std::string(trail.empty() ? "" : " ") + std::string(s.name) + (s.failed ? "!" : "");
        outcome = *v.outcome;
        answer = v.text;
        EXPECT_EQ(pipelines.release(handle, host), &set);
        for (const Scripted::Job& job : host.jobs) EXPECT_TRUE(job.released) << job.agent;
        return trail;
    }
    wire::Outcome outcome;
    std::string answer;
    std::string input_of(const std::string& agent) const {
        for (const Scripted::Job& job : host.jobs)
            if (job.agent == agent) return job.input;
        return "not asked";
    }
};

constexpr char high[] = R"({"unit":"V3","bar":9.5,"open":true,"list":["a","b"]})";

}  // namespace

TEST(Pipelines, branches_divide_and_meet_again) {
    Bench b;
    b.host.says = {{"sort", "alarm"}, {"where", "hall"}, {"what", high}, {"both", "in the hall"}, {"report", "told"}};
    b.host.sure = {{"valve", 0.4f}};
    EXPECT_EQ(b.run(), "sort where what valve horn both report check");
    EXPECT_EQ(b.input_of("sort"), "Unit 3 hisses");
    EXPECT_EQ(b.input_of("where"), "Where? Unit 3 hisses");
    EXPECT_EQ(b.input_of("valve"), "V3 of b at 9.5, true");
    EXPECT_EQ(b.input_of("horn"), high);  // what led to it
    EXPECT_EQ(b.input_of("both"), R"({"count":9.5,"note":"a \"alarm\" { nothing }","place":"hall"})");
    EXPECT_EQ(b.input_of("report"), "in the hall");
    EXPECT_EQ(b.answer, "ok");
    EXPECT_STREQ(b.outcome.finish, "stop");
    EXPECT_STREQ(b.outcome.verdict, "pass");
    EXPECT_FLOAT_EQ(b.outcome.confidence, 0.4f);  // of the least sure
    EXPECT_EQ(b.outcome.tokens, 8 * 5);
    b.host.jobs.clear();
    b.host.says["what"] = R"({"bar":2})";
    EXPECT_EQ(b.run(), "sort where what both report check");
}

TEST(Pipelines, rules_look_at_answers_values_verdicts_and_confidence) {
    Bench b;
    b.host.says = {{"sort", "order"}, {"order", R"({"paid":false})"}};
    EXPECT_EQ(b.run(), "sort order person");
    b.host.says["order"] = R"({"paid":true})";
    EXPECT_EQ(b.run(), "sort order report check");
    b.host.sure = {{"sort", 0.3f}};
    EXPECT_EQ(b.run(), "sort person");
    b.host.sure.clear();
    b.host.says["sort"] = "weather";  // no rule: the branch ends
    EXPECT_EQ(b.run(), "sort");
    EXPECT_EQ(b.answer, "weather");
    b.host.says["sort"] = "alarm", b.host.says["check"] = "fail: too long";
    EXPECT_EQ(b.run(), "sort where what both report check report check report check report check");
    EXPECT_STREQ(b.outcome.finish, "steps");
    EXPECT_STREQ(b.outcome.verdict, "fail");
}

// In each step in turn: the trail names it, what does not depend on it goes on, and nothing hangs.
TEST(Pipelines, a_failure_in_any_step_stands_in_the_trail) {
    const std::map<std::string, std::string> trails = {{"sort", "sort! person"},
                                                       {"where", "sort where! what valve horn both report check"},
                                                       {"what", "sort where what! both report check"},
                                                       {"valve", "sort where what valve! horn both report check"},
                                                       {"horn", "sort where what valve horn! both report check"},
                                                       {"both", "sort where what valve horn both!"},
                                                       {"report", "sort where what valve horn both report!"},
                                                       {"check", "sort where what valve horn both report check!"}};
    for (const auto& [step, trail] : trails) {
        Bench b;
        b.host.says = {{"sort", "alarm"}, {"where", "hall"}, {"what", high}};
        b.host.says[step] = "!the deadline passed";
        // what's value is missing then: "both" has no number, which its agent would refuse
        EXPECT_EQ(b.run(), trail);
        const auto failed = std::find_if(b.outcome.steps.begin(), b.outcome.steps.end(),
                                         [](const wire::StepResult& s) { return s.failed; });
        ASSERT_NE(failed, b.outcome.steps.end());
        EXPECT_EQ(failed->answer, "the deadline passed");
        EXPECT_STREQ(failed->verdict, "error");
        EXPECT_STREQ(b.outcome.verdict, trail.ends_with('!') ? "fail" : "pass") << step;
        if (trail.ends_with('!')) {
            EXPECT_EQ(b.answer, "");
        }
    }
}

TEST(Pipelines, wait_when_all_are_busy_and_keep_their_limits) {
    Bench b;
    b.host.says = {{"sort", "weather"}};
    b.host.busy = {{"sort", 5}};
    EXPECT_EQ(b.run(), "sort");
    const std::string text = ten_steps;
    {
        Bench t("limits = { tokens = 12 }\n" + text.substr(text.find("[[step]]")));
        t.host.says = {{"sort", "alarm"}};
        EXPECT_EQ(t.run(), "sort where what");
        EXPECT_STREQ(t.outcome.finish, "tokens");
    }
    {
        Bench t("limits = { deadline_ms = 30 }\n" + text.substr(text.find("[[step]]")));
        t.host.says = {{"sort", "alarm"}, {"where", "..."}};
        const int handle = t.start();
        while (t.pipelines.view(handle).state != wire::View::finished) t.pipelines.advance(t.host);
        EXPECT_STREQ(t.pipelines.view(handle).outcome->finish, "deadline");
        EXPECT_STREQ(t.pipelines.view(handle).outcome->verdict, "fail");
        t.pipelines.release(handle, t.host);
        for (const Scripted::Job& job : t.host.jobs) EXPECT_TRUE(job.released) << job.agent;
    }
    {  // an answer that leaves no room
        Bench t;
        t.host.says = {{"sort", "order"}, {"order", "{" + std::string(70000, ' ') + "}"}};
        EXPECT_EQ(t.run(), "sort order!");
        EXPECT_EQ(t.outcome.steps[1].answer, "the answers of all steps are over 65536 bytes");
    }
    {  // all at once, and given up in the middle
        Bench t;
        t.host.says = {{"sort", "..."}};
        int handles[Pipelines::max_runs];
        for (int& h : handles) h = t.start();
        const wire::Turn turn{false, "x"};
        wire::Settings settings;
        const wire::Request request{{&turn, 1}, &settings, false};
        EXPECT_EQ(t.pipelines.start(t.set.find("yard")->pipeline, t.set, request).error().code, Code::busy);
        t.pipelines.advance(t.host);
        for (const int h : handles) t.pipelines.release(h, t.host);
        for (const Scripted::Job& job : t.host.jobs) EXPECT_TRUE(job.released);
        EXPECT_TRUE(t.pipelines.start(t.set.find("yard")->pipeline, t.set, request));
    }
}

TEST(Pipelines, that_are_wrong_say_where_and_why) {
    const auto wrong = [](const std::string& from, const std::string& to) {
        std::string text = ten_steps;
        text.replace(text.find(from), from.size(), to);
        const Bench b(text);
        const std::string error(b.set.find("yard")->error);
        return error.substr(std::min(error.size(), b.folder.string().size() + 1));
    };
    EXPECT_EQ(wrong("x", "x"), "");
    EXPECT_EQ(wrong("agent = \"where\"", "agent = \"whither\""),
              "yard.toml:20: step where: there is no agent \"whither\"");
    EXPECT_EQ(wrong("agent = \"where\"", "agent = \"yard\""), "yard.toml:20: step where: there is no agent \"yard\"");
    EXPECT_EQ(wrong("answer = \"alarm\"", "answer = \"alarms\""),
              "yard.toml:5: step sort: its agent never answers \"alarms\"");
    EXPECT_EQ(wrong("to = \"order\"", "to = \"ordre\""), "yard.toml:16: there is no step \"ordre\"");
    EXPECT_EQ(wrong("to = \"order\"", "to = \"person\""), "yard.toml:50: no way leads to the step order");
    EXPECT_EQ(wrong("{what/unit}", "{wat/unit}"), "yard.toml:38: {wat/unit}: there is no such step");
    EXPECT_EQ(wrong("name = \"horn\"", "name = \"what\""), "yard.toml:41: two steps are called what");
    EXPECT_EQ(wrong("name = \"horn\"", "name = \"end\"").substr(0, 28), "yard.toml:41: a step's name ");
    EXPECT_EQ(wrong("agent = \"horn\"", ""), "yard.toml:40: a step has an agent");
    EXPECT_EQ(wrong("place = \"{where}\", ", ""), "yard.toml:44: step both: input lacks the field \"place\"");
    EXPECT_EQ(wrong("place = \"{where}\"", "plaice = \"{where}\""),
              "yard.toml:44: step both: its agent has no field \"plaice\"");
    EXPECT_EQ(wrong("agent = \"horn\"", "agent = \"both\""),
              "yard.toml:40: step horn: input is a table of the fields of the agent \"both\"");
    EXPECT_EQ(wrong("above = 8\n", ""), "yard.toml:29: at goes with is, above or under, and they with at");
    EXPECT_EQ(wrong("at = \"/bar\"\n", ""), "yard.toml:29: at goes with is, above or under, and they with at");
    EXPECT_EQ(wrong("at = \"/bar\"", "at = \"bar\""), "yard.toml:30: at is a JSON Pointer, \"/total\"");
    EXPECT_EQ(wrong("verdict = \"error\"", "verdict = \"bad\""),
              "yard.toml:18: verdict is \"pass\", \"fail\", \"unsure\" or \"error\"");
    EXPECT_EQ(wrong("steps = 12", "steps = 65"), "yard.toml:4: steps is 1 to 64");
    EXPECT_EQ(wrong("join = true", "join = 1"), "yard.toml:47: join is true or false");
    EXPECT_EQ(wrong("confidence_below", "sure_below").substr(0, 39), "yard.toml:12: unknown key \"sure_below\";");
}
