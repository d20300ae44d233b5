// LINK: slmd_wire
// Bytes into a session whose host answers at once: whatever comes, lines stay bounded and every reply has its end.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "wire/session.h"

namespace {

using namespace slmd;
using namespace slmd::wire;

struct EchoHost final : Host {
    struct Job {
        char text[64];
        std::size_t size = 0, taken = 0;
        bool live = false;
        Outcome outcome;
        char label[LabelSet::label_bytes];
        LabelScore scores[LabelSet::max_top];
    } jobs[8];

    Result<int> submit(const Request& r) override {
        for (int i = 0; i < 8; i++) {
            if (jobs[i].live) continue;
            const std::string_view prompt = r.turns.back().text;
            jobs[i].size = fit_at(prompt, sizeof jobs[i].text);
            prompt.copy(jobs[i].text, jobs[i].size);
            jobs[i].taken = 0;
            jobs[i].live = true;
            jobs[i].outcome.finish = "stop";
            jobs[i].outcome.labels = {};
            if (r.labels != nullptr) choose(jobs[i], *r.labels);
            if (!utf8_valid({jobs[i].text, jobs[i].size})) abort();
            return i;
        }
        return Error::make(Code::busy, "full");
    }
    static void choose(Job& job, const LabelSet& set) {
        const auto n = set.labels.size();
        if (n < 2 || n > LabelSet::max_labels || set.top < 1 || set.top > LabelSet::max_top) abort();
        if (static_cast<std::size_t>(set.top) > n || (!set.priors.empty() && set.priors.size() != n)) abort();
        for (const std::string_view l : set.labels)
            if (l.empty() || l.size() > LabelSet::label_bytes || !utf8_valid(l)) abort();
        for (const float p : set.priors)
            if (!(p > 0)) abort();
        job.size = 0;
        const std::size_t size = set.labels.back().copy(job.label, sizeof job.label);
        for (int i = 0; i < set.top; i++) job.scores[i] = {{job.label, size}, 0.0625f};
        job.outcome.labels = {job.scores, static_cast<std::size_t>(set.top)};
    }
    View view(int h) override {
        View v;
        if (!jobs[h].live) abort();
        v.text = {jobs[h].text + jobs[h].taken, jobs[h].size - jobs[h].taken};
        v.state = View::finished;
        v.outcome = &jobs[h].outcome;
        return v;
    }
    void take(int h, std::size_t n) override {
        jobs[h].taken += n;
        if (jobs[h].taken > jobs[h].size) abort();
    }
    void release(int h) override { jobs[h].live = false; }
    Status status() override { return {}; }
    ModelInfo model() override { return {"m", 1, 64, true}; }
    std::span<const PlanItem> plan() override { return {}; }
    std::span<const AgentInfo> agents() override { return {}; }
    std::span<const AdapterInfo> adapters() override { return adapter_infos; }
    std::span<const QueueInfo> queue() override { return {}; }
    std::span<const BudgetInfo> budget() override { return {}; }
    Result<void> drop(std::string_view) override { return {}; }
    static constexpr AdapterInfo adapter_infos[] = {{"polite", "Polite \"1\"", 8, 1 << 20}, {"x", "", 256, 0}};
    std::span<const HardwareItem> hardware() override { return {&item, 1}; }
    std::span<const PinState> pins() override { return {&pin, 1}; }
    Result<void> drive(std::string_view output, bool, int ms) override {
        if (output != "relay" || ms < 0 || ms > 3600000) return Error::make(Code::not_found, "no such output");
        return {};
    }
    HardwareItem item{"temperature", nullptr, {61.5, 77}, 2};
    PinState pin{"relay", "out", 1};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static EchoHost host;
    static Session session;
    static char line[1024];
    static JsonLine reader;
    if (size == 0) return 0;
    SessionOptions options;
    options.tty = (data[0] & 1) != 0;
    options.line = line;
    options.reader = &reader;
    session.open(options, host);
    std::string_view bytes{reinterpret_cast<const char*>(data) + 1, size - 1};
    std::uint64_t now = 0;
    for (int stuck = 0; !bytes.empty() && stuck < 100; stuck++) {
        const std::size_t n = session.feed(bytes.substr(0, 1 + data[0] % 64), now);
        bytes.remove_prefix(n);
        session.pump(now);
        if (n == 0 && session.output().empty()) abort();  // neither takes nor says anything: stuck for ever
        if (n != 0) stuck = 0;
        now += data[0];
        while (!session.output().empty()) session.consume(session.output().size());
    }
    session.close();
    for (const auto& j : host.jobs)
        if (j.live) abort();
    return 0;
}
