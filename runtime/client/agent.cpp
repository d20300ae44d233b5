#include "client/agent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <vector>

#include "agent/agent.h"
#include "agent/calibrate.h"
#include "agent/pipeline.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "client/calibrate.h"
#include "client/caller.h"
#include "client/labelled.h"

namespace slmd::client {
namespace {

constexpr std::size_t agent_bytes = 16u << 20;  // a file is checked on a PC as well

struct Print {
    int size;
    const char* text;
    explicit Print(std::string_view s) : size(static_cast<int>(s.size())), text(s.data()) {}
};

// Those of the agent's own file that are not shown to the model.
Result<std::vector<Labelled>> read_examples(const char* path) {
    const std::unique_ptr<std::byte[]> block(new (std::nothrow) std::byte[agent_bytes]);
    if (!block) return Error::make(Code::memory_full, "no memory to read %s", path);
    grammar::Heap heap({block.get(), agent_bytes});
    std::vector<Labelled> out;
    const agent::Agent a = agent::is_pipeline(path) ? agent::Agent{} : TRY(agent::read_agent(path, heap));
    for (const agent::Example& e : a.examples)
        if (!e.shown) out.push_back({std::string(e.input), std::string(e.output), a.fields.size() > 1});
    if (out.empty())
        return Error::make(Code::incorrect_parameters,
                           "%s: it has no [[example]] that the model is not shown; give a file of lines {\"input\": "
                           "..., \"output\": ...}",
                           path);
    return out;
}

// Asks one agent about inputs whose answers are known.
class Trial {
  public:
    struct Answer {
        bool right;
        std::string verdict;
        double ms;
        float confidence;
        Features features;
    };

    Trial(Connection& connection, const char* name) : caller_(connection), name_(name) {}
    // file: null for the agent's own examples.
    Result<void> open(const char* file) {
        TRY(caller_.wait_for_model());
        const JsonNode* const info = TRY(caller_.call("agent", "\"name\":" + quoted(name_), false));
        if (const std::string error = text_of(caller_.reader(), *info, "error"); !error.empty())
            return Error::make(Code::not_allowed, "%s", error.c_str());
        path_ = text_of(caller_.reader(), *info, "file");
        sha256_ = text_of(caller_.reader(), *info, "sha256");
        adapter_sha256_ = text_of(caller_.reader(), *info, "adapter_sha256");
        const JsonNode* const model = TRY(caller_.call("model", "", false));
        model_ = text_of(caller_.reader(), *model, "name");
        labelled_ = TRY(file != nullptr ? read_labelled(file) : read_examples(path_.c_str()));
        memory_.reset(new (std::nothrow) std::byte[agent_bytes]);
        if (!memory_) return Error::make(Code::memory_full, "no memory");
        return {};
    }
    bool done() const { return at_ == labelled_.size(); }
    Result<Answer> next() {
        const Labelled& l = labelled_[at_++];
        const std::int64_t begin = now_ns();
        const JsonNode& r = *TRY(caller_.call("run", local_params(name_, l.input, l.object), true));
        const double ms = static_cast<double>(now_ns() - begin) * 1e-6;
        const wire::JsonLine& reader = caller_.reader();
        const auto number = [&](const JsonNode* object, const char* name) {
            const JsonNode* const n = object != nullptr ? reader.find(*object, name) : nullptr;
            return n != nullptr ? static_cast<float>(n->number) : 0;
        };
        const JsonNode* const f = reader.find(r, "features");
        return Answer{same_answer(l.output, judged_of(reader, r), {memory_.get(), agent_bytes}),
                      text_of(reader, r, "verdict"),
                      ms,
                      number(&r, "confidence"),
                      {number(f, "min"), number(f, "mean"), number(f, "margin"), number(f, "entropy")}};
    }
    const std::string& path() const { return path_; }
    const std::string& model() const { return model_; }
    const std::string& sha256() const { return sha256_; }
    const std::string& adapter_sha256() const { return adapter_sha256_; }

  private:
    Caller caller_;
    const char* name_;
    std::string path_, model_, sha256_, adapter_sha256_;
    std::vector<Labelled> labelled_;
    std::size_t at_ = 0;
    std::unique_ptr<std::byte[]> memory_;
};

// "  light(on: true): on for 500 ms", to stderr.
void print_call(const JsonReader& reader, const JsonNode& call) {
    fprintf(stderr, "  %s(", text_of(reader, call, "name").c_str());
    const JsonNode* const arguments = reader.find(call, "arguments");
    const char* comma = "";
    for (int i = arguments != nullptr ? reader.first(*arguments) : 0; arguments != nullptr && i < arguments->next;
         i = reader.node(i).next) {
        const JsonNode& n = reader.node(i);
        const Print key(n.key), value(n.type == JsonType::boolean ? (n.truth ? "true" : "false") : n.text);
        fprintf(stderr, "%s%.*s: %.*s", comma, key.size, key.text, value.size, value.text);
        comma = ", ";
    }
    const std::string error = text_of(reader, call, "error");
    fprintf(stderr, "): %s\n", error.empty() ? text_of(reader, call, "result").c_str() : error.c_str());
}

// The reply's array of calls, as it was written.
void print_calls(std::string_view written) {
    std::string text(written);
    constexpr std::string_view left[] = {"if"};
    JsonNode nodes[256];
    JsonReader reader(nodes, 4);
    reader.leave(left);
    if (!reader.parse(text)) return;
    for (int i = reader.first(reader.root()); i < reader.root().next; i = reader.node(i).next)
        print_call(reader, reader.node(i));
}

}  // namespace

int check_agents(std::span<char* const> files) {
    const std::unique_ptr<std::byte[]> block(new (std::nothrow) std::byte[agent_bytes]);
    if (!block) return complain(Error::make(Code::memory_full, "no memory"), exit_failed);
    int code = 0;
    for (const char* file : files) {
        grammar::Heap heap({block.get(), agent_bytes});
        if (agent::is_pipeline(file)) {
            const auto read = agent::read_pipeline(file, heap);
            if (read)
                printf("%s: good: a pipeline of %zu steps\n", file, read.value().steps.size());
            else
                fprintf(stderr, "%s\n", read.error().text), code = exit_failed;
            continue;
        }
        const auto read = agent::read_agent(file, heap);
        if (!read) {
            fprintf(stderr, "%s\n", read.error().text);
            code = exit_failed;
            continue;
        }
        const agent::Agent& a = read.value();
        printf("%s: good: %zu fields, ", file, a.fields.size());
        if (a.output == agent::Output::choice) printf("%zu labels", a.labels.size());
        if (a.output == agent::Output::schema) printf("a schema");
        if (a.output == agent::Output::text) printf("a text of at most %zu bytes", a.text_bytes);
        printf(", %zu checks, %zu examples (%zu shown), %.1f KiB\n", a.checks.size(), a.examples.size(), a.shots.size(),
               static_cast<double>(heap.used()) / 1024);
        if (!a.warning.empty()) printf("%.*s\n", static_cast<int>(a.warning.size()), a.warning.data());
    }
    return code;
}

int list_agents(Connection& connection, bool json) {
    Caller caller(connection);
    const auto r = caller.call("agent", "", false);
    if (!r) return outcome(r.error());
    if (json) return puts(caller.line().c_str()), 0;
    const wire::JsonLine& reader = caller.reader();
    const JsonNode* const agents = reader.find(*r.value(), "agents");
    if (agents == nullptr) return complain(Error::make(Code::unknown, "not a list of agents"), exit_failed);
    for (int i = reader.first(*agents); i < agents->next; i = reader.node(i).next) {
        const JsonNode& a = reader.node(i);
        const std::string error = text_of(reader, a, "error");
        const JsonNode* const calibrated = reader.find(a, "calibrated");
        printf("%-16s %-8s %-14s %s\n", text_of(reader, a, "name").c_str(),
               error.empty() ? text_of(reader, a, "answer").c_str() : "bad",
               calibrated != nullptr && calibrated->truth ? "calibrated" : "not calibrated",
               error.empty() ? text_of(reader, a, "description").c_str() : error.c_str());
    }
    return 0;
}

int list_adapters(Connection& connection, bool json) {
    Caller caller(connection);
    const auto r = caller.call("adapter", "", false);
    if (!r) return outcome(r.error());
    if (json) return puts(caller.line().c_str()), 0;
    const wire::JsonLine& reader = caller.reader();
    const JsonNode* const adapters = reader.find(*r.value(), "adapters");
    if (adapters == nullptr) return complain(Error::make(Code::unknown, "not a list of adapters"), exit_failed);
    for (int i = reader.first(*adapters); i < adapters->next; i = reader.node(i).next) {
        const JsonNode &a = reader.node(i), *rank = reader.find(a, "rank"), *bytes = reader.find(a, "bytes");
        printf("%-24s rank %3.0f %12.0f  %s\n", text_of(reader, a, "name").c_str(),
               rank != nullptr ? rank->number : 0.0, bytes != nullptr ? bytes->number : 0.0,
               text_of(reader, a, "title").c_str());
    }
    return 0;
}

int show_agent(Connection& connection, const char* name) {
    Caller caller(connection);
    const auto r = caller.call("agent", "\"name\":" + quoted(name), false);
    if (!r) return outcome(r.error());
    const wire::JsonLine& reader = caller.reader();
    for (int i = reader.first(*r.value()); i < r.value()->next; i = reader.node(i).next) {
        const JsonNode& n = reader.node(i);
        const Print key(n.key), value(n.type == JsonType::boolean ? (n.truth ? "yes" : "no") : n.text);
        printf("%-12.*s %.*s\n", key.size, key.text, value.size, value.text);
    }
    return 0;
}

int run_agent(Connection& connection, const char* name, std::string input, const std::string& settings, bool json) {
    if (input == "-") input = read_all(stdin);
    if (!utf8_valid(input))
        return complain(Error::make(Code::invalid_characters, "the input is not UTF-8"), exit_failed);
    Caller caller(connection);
    if (auto r = caller.wait_for_model(); !r) return outcome(r.error());
    const auto r = caller.call("run", run_params(name, input, false) + settings, true);
    if (!r) return outcome(r.error());
    return print_answer(caller, *r.value(), json);
}

int print_answer(const Caller& caller, const JsonNode& result, bool json) {
    const wire::JsonLine& reader = caller.reader();
    const std::string verdict = text_of(reader, result, "verdict");
    const int code = verdict == "pass" ? 0 : verdict == "fail" ? exit_refuted : exit_unsure;
    if (json) return puts(caller.line().c_str()), code;
    puts(answer_of(reader, result).c_str());
    const JsonNode *confidence = reader.find(result, "confidence"), *calibrated = reader.find(result, "calibrated"),
                   *checks = reader.find(result, "checks");
    fprintf(stderr, "%s, confidence %.3f%s\n", verdict.c_str(), confidence != nullptr ? confidence->number : 0.0,
            calibrated != nullptr && calibrated->truth ? "" : " (not calibrated)");
    if (const std::string reason = text_of(reader, result, "reason"); !reason.empty()) {
        const std::string key = text_of(reader, result, "key"), error = text_of(reader, result, "remote_error");
        fprintf(stderr, "  route: %s, since %s%s%s%s%s\n", text_of(reader, result, "route").c_str(), reason.c_str(),
                key.empty() ? "" : "; slmctl queue show ", key.c_str(), error.empty() ? "" : ": ", error.c_str());
    }
    if (const JsonNode* const steps = reader.find(result, "steps"); steps != nullptr)
        for (int i = reader.first(*steps); i < steps->next; i = reader.node(i).next) {
            const JsonNode& s = reader.node(i);
            const std::string error = text_of(reader, s, "error");
            fprintf(stderr, "  %s: %s: %s\n", text_of(reader, s, "name").c_str(), text_of(reader, s, "verdict").c_str(),
                    (error.empty() ? text_of(reader, s, "answer") : error).c_str());
        }
    if (const JsonNode* const calls = reader.find(result, "calls"); calls != nullptr) print_calls(calls->text);
    for (int i = checks != nullptr ? reader.first(*checks) : 0; checks != nullptr && i < checks->next;
         i = reader.node(i).next) {
        const JsonNode& c = reader.node(i);
        const std::string why = text_of(reader, c, "why");
        fprintf(stderr, "  %s: %s%s%s\n", text_of(reader, c, "name").c_str(), text_of(reader, c, "verdict").c_str(),
                why.empty() ? "" : ": ", why.c_str());
    }
    return code;
}

int bench_agent(Connection& connection, const char* name, const char* file) {
    Trial trial(connection, name);
    if (auto opened = trial.open(file); !opened) return outcome(opened.error());
    struct {
        int count, right;
    } by[3] = {};  // pass, unsure, fail
    std::vector<double> times;
    std::vector<agent::Judged> judged;
    while (!trial.done()) {
        const auto a = trial.next();
        if (!a) return outcome(a.error());
        times.push_back(a.value().ms);
        judged.push_back({a.value().confidence, a.value().right});
        auto& b = by[a.value().verdict == "pass" ? 0 : a.value().verdict == "unsure" ? 1 : 2];
        b.count++;
        b.right += a.value().right;
    }
    std::sort(times.begin(), times.end());
    const auto n = static_cast<double>(times.size());
    const double share = (by[0].right + by[1].right + by[2].right) / n;
    printf("%s: %.0f inputs, %.3f +- %.3f right, calibration error %.3f (by chance alone %.3f); ", name, n, share,
           std::sqrt(share * (1 - share) / n), agent::ece(judged), agent::chance_ece(judged));
    printf("pass %d (%d right), unsure %d (%d), fail %d (%d); median %.0f ms, 95 %% %.0f ms\n", by[0].count,
           by[0].right, by[1].count, by[1].right, by[2].count, by[2].right, times[times.size() / 2],
           times[times.size() * 95 / 100]);
    return 0;
}

int calibrate_agent(Connection& connection, const char* name, const char* file) {
    Trial trial(connection, name);
    if (auto opened = trial.open(file); !opened) return outcome(opened.error());
    const auto next = [&](agent::Sample& e) -> Result<bool> {
        if (trial.done()) return false;
        const auto a = TRY(trial.next());
        e = {a.features, a.right};
        return true;
    };
    const auto done =
        calibrate(trial.path().c_str(), trial.sha256(), trial.model(), trial.adapter_sha256(), next, stdout);
    if (!done) return outcome(done.error());
    puts("systemctl reload slmd has slmd use it");
    return 0;
}

int extract(Connection& connection, std::string text, const std::string& settings, bool json) {
    if (text == "-") text = read_all(stdin);
    if (!utf8_valid(text)) return complain(Error::make(Code::invalid_characters, "the text is not UTF-8"), exit_failed);
    Caller caller(connection);
    if (auto r = caller.wait_for_model(); !r) return outcome(r.error());
    const auto r = caller.call("ext", "\"prompt\":" + quoted(text) + settings, true);
    if (!r) return outcome(r.error());
    if (json) return puts(caller.line().c_str()), 0;
    const wire::JsonLine& reader = caller.reader();
    puts(answer_of(reader, *r.value()).c_str());
    const JsonNode* const spans = reader.find(*r.value(), "spans");
    for (int i = spans != nullptr ? reader.first(*spans) : 0; spans != nullptr && i < spans->next;
         i = reader.node(i).next) {
        const JsonNode &s = reader.node(i), *begin = reader.find(s, "begin"), *end = reader.find(s, "end");
        if (begin == nullptr || end == nullptr)
            fprintf(stderr, "  %s: not in the text\n", text_of(reader, s, "at").c_str());
        else
            fprintf(stderr, "  %s: bytes %.0f to %.0f\n", text_of(reader, s, "at").c_str(), begin->number, end->number);
    }
    return 0;
}

}  // namespace slmd::client
