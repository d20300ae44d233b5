// A host without an engine: answers are a function of the prompt, and appear a few bytes a pump.
#pragma once
#include <string>
#include <vector>

#include "wire/session.h"

namespace slmd::wire {

struct FakeHost final : Host {
    struct Job {
        std::string prompt, answer;
        std::size_t shown = 0, taken = 0;
        bool live = false;
        Outcome outcome;
        std::vector<std::string> labels;
        std::vector<LabelScore> scores;
        std::vector<float> vectors;
        std::vector<TextRead> texts;
        DocumentsOutcome told{};
    };
    std::vector<Job> jobs = std::vector<Job>(16);
    std::vector<PlanItem> items = {{"image", 1000}, {"KV cache", 2000}};
    std::vector<std::string> submitted;
    std::size_t step = 3;  // bytes that appear between two pumps
    int queue_place = 0;
    Result<void> refusal;
    Settings last;
    std::string last_tools, last_tool_choice, last_schema, last_regex, last_source;

    static std::string answer_to(const std::string& prompt) {
        return "You said: \"" + prompt + "\"\n\xC3\xA9\xF0\x9F\x98\x80 end.";
    }

    Result<int> submit(const Request& r) override {
        if (!refusal) return refusal.error();
        std::string prompt;
        for (const Turn& t : r.turns)
            prompt += (t.assistant ? "|A:" : prompt.empty() ? "" : "|U:") + std::string(t.text);
        submitted.push_back(prompt);
        last = *r.settings;
        last_tools = r.tools, last_tool_choice = r.tool_choice;
        last_schema = r.schema, last_regex = r.regex, last_source = r.source;
        for (std::size_t i = 0; i < jobs.size(); i++) {
            if (jobs[i].live) continue;
            jobs[i] = {prompt, r.labels == nullptr && !r.embed ? answer_to(prompt) : "", 0, 0, true, {}, {}, {}, {}, {},
                       {}};
            jobs[i].outcome.finish = "stop";
            jobs[i].outcome.prompt_tokens = 9, jobs[i].outcome.tokens = 11, jobs[i].outcome.first_ms = 390,
            jobs[i].outcome.total_ms = 1120;
            jobs[i].outcome.probability = 0.5f;
            if (r.labels != nullptr) choose(jobs[i], *r.labels);
            if (!r.tools.empty()) jobs[i].answer = "{\"calls\":[{}]}", jobs[i].outcome.json = r.tool_choice != "none";
            if (r.spans) spans(jobs[i], r);
            if (!r.key.empty()) jobs[i].answer = "late", jobs[i].outcome.verdict = "unchecked";
            if (!r.agent.empty()) run(jobs[i], r);
            if (r.embed) embed(jobs[i], r);
            if (r.documents != nullptr) documents(jobs[i], r);
            return static_cast<int>(i);
        }
        return Error::make(Code::busy, "full");
    }
    // The last label is the best, the one before it half as good, and so on; a prior is multiplied in.
    void choose(Job& job, const LabelSet& set) {
        last_priors.assign(set.priors.begin(), set.priors.end());
        last_top = set.top;
        job.labels.assign(set.labels.begin(), set.labels.end());
        last_labels = job.labels;
        float p = 0.5f;
        for (auto l = job.labels.rbegin(); l != job.labels.rend() && static_cast<int>(job.scores.size()) < set.top; ++l)
            job.scores.push_back({*l, p}), p /= 2;
        job.outcome.labels = job.scores;
        job.outcome.margin = 0.25f;
    }
    // Of each text a vector of `dim` numbers, of which the first is how long it is; texts that begin with "long" are
    // cut.
    void embed(Job& job, const Request& r) const {
        for (const Turn& t : r.turns) {
            for (int i = 0; i < dim; i++)
                job.vectors.push_back(i == 0 ? static_cast<float>(t.text.size()) : static_cast<float>(i % 5 - 2) / 8);
            job.texts.push_back({static_cast<int>(t.text.size()) + 2, t.text.starts_with("long")});
        }
        job.outcome.vectors = job.vectors, job.outcome.texts = job.texts;
    }
    // Two documents, two passages; "nothing" has no answer.
    void documents(Job& job, const Request& r) {
        const DocumentsRequest& w = *r.documents;
        last_documents = std::string(w.name) + "|" + std::string(w.by) + "|" + std::to_string(w.top) + "|" +
                         std::to_string(w.part) + (w.last ? "|last" : "|more");
        for (const PassageGiven& p : w.passages)
            last_documents += "|" + std::string(p.heading) + ":" + std::string(p.text) + "@" + std::to_string(p.begin) +
                              "-" + std::to_string(p.end);
        static const std::string text = "He said \"no\".\n" + std::string(1400, 'x');
        static const PassageFound found[] = {{7, 10, 20, "a \"b\".md", "A > B", text, 0.03125f, 0.75f, 1, 2},
                                             {9, 0, 5, "c.md", "", "short", 0.015625f, 0.5f, 0, 1}};
        static constexpr DocumentInfo list[] = {{"a \"b\".md", "0f", 1000, 12, 11, true},
                                                {"c.md", "1f", 5, 1, 0, false}};
        job.told = {w.what};
        job.answer = w.what == DocumentsRequest::ask && r.turns[0].text != "nothing" ? "12 May" : "";
        job.told.answered = !job.answer.empty(), job.told.why = "nothing was found";
        job.told.documents = 2, job.told.passages = 13;
        if (w.what == DocumentsRequest::list) job.told.list = list;
        if (w.what == DocumentsRequest::search) job.told.found = found;
        if (job.told.answered) job.told.found = std::span(found).first(1), job.told.why = "";
        job.outcome.documents = &job.told;
    }
    std::string last_documents;
    int dim = 8;
    void spans(Job& job, const Request& r) {
        job.answer = R"({"a":12,"b/c":["x"]})";
        job.outcome.json = true;
        last_source = r.source;
        static constexpr ValueSpan found[] = {{"/a", 3, 5}, {"/b~1c/0", -1, -1}};
        job.outcome.spans = found;
    }
    // "sentiment" chooses, "invoice" extracts, others write.
    void run(Job& job, const Request& r) {
        last_agent = r.agent, last_fields = r.fields;
        last_adapter = r.adapter ? std::string(*r.adapter) : "(the agent's)";
        static constexpr std::string_view labels[] = {"bad", "good"};
        if (r.agent == "sentiment") choose(job, {labels, {}, 2}), job.answer.clear();
        if (r.agent == "invoice") spans(job, r);
        static constexpr CheckResult checks[] = {{"iban /iban", "pass", ""}, {"sum", "fail", "1.00, not \"2.00\""}};
        job.outcome.checks = checks;
        static constexpr CallResult calls[] = {{"light", "{\"on\":true}", "on for 500 ms"},
                                               {"warm", "{}", "this board says \"nothing\"", true}};
        if (r.agent == "switcher") job.outcome.calls = calls;
        last_trusted = r.trusted;
        job.outcome.verdict = "fail", job.outcome.route = "keep";
        last_wish = r.wish;
        static constexpr Away away{
            "a check of the local answer failed", {}, "cloud", "large-1", {}, 100, 20, 1, 300, 512, 640, 1234},
            queued{"there is no link", "0123456789abcdef0123456789abcdef", {}, {}, {}, 0, 0, 0, 0, 0, 0, 0};
        if (r.agent == "mail") job.outcome.away = &away, job.outcome.route = "escalate";
        if (r.agent == "later") job.outcome.away = &queued, job.outcome.route = "queue";
        job.outcome.features.min = 0.99999988f;
        job.outcome.confidence = 0.75f, job.outcome.calibrated = true;
    }
    Wish last_wish = Wish::none;
    std::string last_agent, last_adapter;
    bool last_fields = false, last_trusted = false;
    std::vector<std::string> last_labels;
    std::vector<float> last_priors;
    int last_top = 0;
    bool waits = false;  // nothing is ever finished
    void advance() {
        for (Job& j : jobs) j.shown = std::min(j.answer.size(), j.shown + step);
    }
    View view(int h) override {
        Job& j = jobs.at(static_cast<std::size_t>(h));
        View v;
        v.place = queue_place;
        v.tokens = static_cast<int>(j.shown / 3);
        std::string_view all = std::string_view(j.answer).substr(0, j.shown);
        std::size_t whole = 0;  // only whole code points are shown
        while (whole < all.size()) {
            const int n = utf8_length(all.substr(whole));
            if (n <= 0) break;
            whole += static_cast<std::size_t>(n);
        }
        v.text = all.substr(0, whole).substr(j.taken);
        v.state = j.shown == j.answer.size() && !waits ? View::finished : View::answering;
        v.outcome = v.state == View::finished ? &j.outcome : nullptr;
        return v;
    }
    void take(int h, std::size_t n) override { jobs.at(static_cast<std::size_t>(h)).taken += n; }
    void release(int h) override { jobs.at(static_cast<std::size_t>(h)).live = false; }
    int live() const {
        int n = 0;
        for (const Job& j : jobs) n += j.live;
        return n;
    }
    Status status() override {
        Status s;
        s.temp_c = 61.2, s.used_mib = 180, s.limit_mib = 512, s.rate = 14.3;
        return s;
    }
    ModelInfo model() override { return {"smol", 92u << 20, 2048, true}; }
    std::span<const PlanItem> plan() override { return items; }
    std::vector<AgentInfo> agent_list = {
        {"sentiment", "glad or not", "agents/sentiment.toml", "choice", {}, true, "aa", 7, 0.125},
        {"torn", "", "agents/torn.toml", "", "agents/torn.toml:3: what", false}};
    std::span<const AgentInfo> agents() override { return agent_list; }
    std::vector<AdapterInfo> adapter_list = {{"polite", "Polite \"1\"", 8, 335296},
                                             {"terse", "terse-lora", 64, 1 << 20}};
    std::span<const AdapterInfo> adapters() override { return adapter_list; }
    std::vector<QueueInfo> queue_list{{"0123456789abcdef0123456789abcdef", "mail", false, 2, 1764000000, 1764086400},
                                      {"fedcba9876543210fedcba9876543210", "mail", true, 0, 1764000001, 0}};
    std::vector<BudgetInfo> budget_list{{"", "day", {300, 120, 4096}, {500000, -1, 2000000}},
                                        {"mail", "month", {1234567, 7, 8}, {-1, -1, -1}}};
    std::vector<std::string> dropped;
    std::span<const QueueInfo> queue() override { return queue_list; }
    std::span<const BudgetInfo> budget() override { return budget_list; }
    Result<void> drop(std::string_view key) override {
        if (key != queue_list[0].key) return Error::make(Code::not_found, "nothing was queued by that key");
        dropped.emplace_back(key);
        return {};
    }
    std::span<const HardwareItem> hardware() override { return hardware_items; }
    std::span<const PinState> pins() override { return pin_states; }
    Result<void> drive(std::string_view output, bool on, int ms) override {
        if (output != "relay") return Error::make(Code::not_found, "no output of that name");
        driven.push_back({on, ms});
        return {};
    }
    std::vector<HardwareItem> hardware_items{
        {"board", "pi-5", {}, 0}, {"temperature", nullptr, {61.5, 77}, 2}, {"admit", nullptr, {1}, 1}};
    std::vector<PinState> pin_states{{"relay", "out", 1}, {"door", "trigger", -1}};
    std::vector<std::pair<bool, int>> driven;
};

// A session on a fake host, with everything that it said.
struct Bench {
    FakeHost host;
    Session session;
    std::vector<char> line;
    JsonLine reader;
    std::uint64_t now = 1000;

    explicit Bench(bool tty = true, std::size_t line_bytes = 4096, bool trusted = true) : line(line_bytes) {
        SessionOptions o;
        o.tty = tty;
        o.line = line;
        o.reader = &reader;
        o.identity.version = "0.1.0";
        o.trusted = trusted;
        session.open(o, host);
    }
    std::string drain() {
        std::string out;
        for (std::string_view v = session.output(); !v.empty(); v = session.output())
            out += v, session.consume(v.size());
        return out;
    }
    // Sends all of it and runs until nothing moves any more.
    std::string say(std::string_view bytes) {
        std::string out;
        for (int idle = 0; idle < 50;) {
            const std::size_t n = session.feed(bytes, now);
            bytes.remove_prefix(n);
            host.advance();
            session.pump(now);
            const std::string more = drain();
            out += more;
            idle = n == 0 && more.empty() ? idle + 1 : 0;
        }
        return out;
    }
};

}  // namespace slmd::wire
