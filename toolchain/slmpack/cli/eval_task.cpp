// slmpack eval --task: how often models choose the right label, against their source in float32.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "commands.h"
#include "evaluation.h"
#include "task.h"
#include "toolchain/slmpack/image/import.h"
#include "toolchain/slmpack/image/parallel.h"
#include "toolchain/slmpack/reference/logits.h"

namespace slmd::pack {
namespace {

constexpr std::size_t together = 16;  // lines whose results are kept at once

// The sums of what each row says about the tokens that may follow.
class Sums {
  public:
    explicit Sums(const Choices& choices) : choices_(choices), sums_(choices.labels.size()) {}
    void add(std::size_t row, std::span<const float> logits) {
        const double all = log_sum(logits);
        for (std::size_t k = 0; k < sums_.size(); k++)
            for (const Choices::Step& step : choices_.labels[k])
                if (step.row == row)
                    sums_[k] += static_cast<double>(logits[static_cast<std::size_t>(step.token)]) - all;
    }
    // The first of the largest.
    std::size_t choice() const {
        return static_cast<std::size_t>(std::max_element(sums_.begin(), sums_.end()) - sums_.begin());
    }

  private:
    const Choices& choices_;
    std::vector<double> sums_;
};

// `before`: what all texts of the task begin with.
Result<std::vector<std::size_t>> choose(const Reference& model, const Reference::Cache& before,
                                        std::span<const Choices> lines) {
    const std::size_t shared = before.length;
    std::vector<std::int32_t> tokens, parents;
    std::vector<std::size_t> wanted;
    struct Asked {
        std::size_t line, row;
    };
    std::vector<Asked> asked;
    std::vector<Sums> sums;
    for (std::size_t k = 0; k < lines.size(); k++) {
        const Choices& c = lines[k];
        const auto at = tokens.size();
        tokens.insert(tokens.end(), c.tokens.begin() + static_cast<std::ptrdiff_t>(shared), c.tokens.end());
        for (std::size_t i = shared; i < c.parents.size(); i++)
            parents.push_back(
                i == shared ? -1 : static_cast<std::int32_t>(at + static_cast<std::size_t>(c.parents[i]) - shared));
        for (const std::size_t row : c.asked()) {
            wanted.push_back(at + row - shared);
            asked.push_back({k, row});
        }
        sums.emplace_back(c);
    }
    TRY(model.tree(before, tokens, parents, wanted, [&](std::size_t i, std::span<const float> logits) {
        sums[asked[i].line].add(asked[i].row, logits);
    }));
    std::vector<std::size_t> out;
    for (const Sums& s : sums) out.push_back(s.choice());
    return out;
}

// Rows of the same depth go through the engine together, each in a slot of its own: what they share is copied from one
// slot to the others, not computed again.
Result<std::size_t> choose(engine::Engine& engine, const Choices& choices) {
    std::vector<std::vector<std::int32_t>> texts;
    auto rows = choices.asked();
    std::vector<std::size_t> depths;
    for (const std::int32_t parent : choices.parents)
        depths.push_back(parent < 0 ? 1 : depths[static_cast<std::size_t>(parent)] + 1);
    std::stable_sort(rows.begin(), rows.end(), [&](std::size_t a, std::size_t b) { return depths[a] < depths[b]; });
    for (const std::size_t row : rows) {
        auto& text = texts.emplace_back(depths[row]);
        std::size_t at = row;
        for (auto token = text.rbegin(); token != text.rend(); ++token) {
            *token = choices.tokens[at];
            at = static_cast<std::size_t>(choices.parents[at]);
        }
    }
    Sums sums(choices);
    const auto slots = static_cast<std::size_t>(engine.slots());
    for (std::size_t first = 0, end = 0; first < rows.size(); first = end) {
        std::vector<engine::Engine::Step> steps;
        std::vector<std::size_t> row_of;  // of each step
        while (end < rows.size() && end - first < slots && depths[rows[end]] == depths[rows[first]]) {
            steps.push_back({.slot = static_cast<int>(end - first), .tokens = texts[end]});
            row_of.push_back(rows[end++]);
        }
        while (!steps.empty()) {
            TRY(engine.advance(steps));
            for (std::size_t i = steps.size(); i-- > 0;) {
                if (static_cast<std::size_t>(steps[i].cached) < steps[i].tokens.size()) continue;
                sums.add(row_of[i], steps[i].logits);
                steps.erase(steps.begin() + static_cast<std::ptrdiff_t>(i));
                row_of.erase(row_of.begin() + static_cast<std::ptrdiff_t>(i));
            }
        }
    }
    return sums.choice();
}

// What all texts begin with, less the last token of the shortest beginning.
std::vector<std::int32_t> common_beginning(const std::vector<Choices>& all) {
    std::vector<std::int32_t> common(all[0].tokens.begin(),
                                     all[0].tokens.begin() + static_cast<std::ptrdiff_t>(all[0].trunk - 1));
    for (const Choices& c : all) {
        const auto end = c.tokens.begin() + static_cast<std::ptrdiff_t>(c.trunk - 1);
        common.erase(std::mismatch(common.begin(), common.end(), c.tokens.begin(), end).first, common.end());
    }
    return common;
}

// On all cores. Short texts go through the model several at a time, which is cheaper than one by one; how they are put
// together does not depend on the number of cores.
Result<std::vector<std::size_t>> choose_all(const Reference& model, const Reference::Cache& before,
                                            std::span<const Choices> choices) {
    constexpr std::size_t most_rows = 256;
    std::vector<std::span<const Choices>> groups;
    for (std::size_t first = 0, i = 0, rows = 0; i < choices.size(); i++) {
        rows += choices[i].tokens.size() - before.length;
        if (i + 1 < choices.size() && rows + choices[i + 1].tokens.size() - before.length <= most_rows) continue;
        groups.push_back(choices.subspan(first, i + 1 - first));
        first = i + 1;
        rows = 0;
    }
    std::vector<std::vector<std::size_t>> chosen(groups.size());
    std::optional<Error> failed;
    std::mutex mutex;
    parallel(groups.size(), 1, [&](std::size_t i) {
        auto now = choose(model, before, groups[i]);
        if (now) {
            chosen[i] = std::move(*now);
            return;
        }
        const std::lock_guard lock(mutex);
        failed = now.error();
    });
    if (failed) return *failed;
    std::vector<std::size_t> out;
    for (const auto& group : chosen) out.insert(out.end(), group.begin(), group.end());
    return out;
}

Result<std::vector<Choices>> all_choices(const LoadedTokenizer& tokenizer, const EvalCommand& command,
                                         const Task& task) {
    std::vector<Choices> out(task.lines.size());
    std::optional<Error> failed;
    std::mutex mutex;
    parallel(out.size(), 1, [&](std::size_t i) {
        auto made = choices_of(tokenizer, command.prompt, task, task.lines[i]);
        if (made) {
            out[i] = std::move(*made);
            return;
        }
        const std::lock_guard lock(mutex);
        failed =
            Error::make(made.error().code, "%s:%zu: %s", command.task.c_str(), task.lines[i].number, made.error().text);
    });
    if (failed) return *failed;
    return out;
}

// All lines by one model, of which the first few may be done. Keeps what is done now.
template <class Model>
Result<void> finish(std::vector<std::size_t>& chosen, std::span<const Choices> choices, const Json& name,
                    const Model& model, Progress& done, const std::function<void(std::size_t)>& progress) {
    while (chosen.size() < choices.size()) {
        const std::size_t first = chosen.size();
        const auto part = choices.subspan(first, std::min(together, choices.size() - first));
        const std::vector<std::size_t> now = TRY(model(part));
        chosen.insert(chosen.end(), now.begin(), now.end());
        TRY(done.add(Json{{"model", name}, {"chosen", now}}));
        if (progress) progress(now.size());
    }
    return {};
}

struct TaskEvaluation {
    Task task;
    std::vector<Contender> contenders;
    std::vector<std::vector<std::size_t>> chosen;  // [model][line]: a label; model 0 is the source
    std::string described_source;
};

Result<TaskEvaluation> evaluate(EvalCommand& command) {
    if (command.prompt.starts_with('@')) command.prompt = TRY(read_text(command.prompt.substr(1)));
    TRY(check_prompt(command.prompt));
    TaskEvaluation e;
    e.task = TRY(read_task(command.task, static_cast<std::size_t>(command.limit)));
    const auto source = TRY(Source::open(command.source));
    const auto tokenizer = TRY(load_tokenizer(command.source));
    TRY(check_labels(tokenizer, command.task, e.task));
    const std::vector<Choices> choices = TRY(all_choices(tokenizer, command, e.task));
    std::size_t longest = 0;
    for (std::size_t i = 0; i < choices.size(); i++) {
        longest = std::max(longest, choices[i].longest());
        if (longest > source->params.context)
            return Error::make(Code::context_full, "%s:%zu: %zu tokens with its prompt; the model was made for %u",
                               command.task.c_str(), e.task.lines[i].number, longest, source->params.context);
    }

    engine::Config config{.context = static_cast<int>(longest),
                          .slots = static_cast<int>(std::min<std::size_t>(e.task.labels.size(), engine::max_slots)),
                          .threads = command.threads,
                          .batch = command.batch};
    if (!command.level.empty()) config.level = command.level.c_str();
    for (const std::string& path : command.models)
        e.contenders.push_back(TRY(Contender::open(path, config, source->params.vocab)));

    std::string what;
    if (!command.work.empty() || command.record) {
        e.described_source = TRY(describe_files(source->path, source->parts)).json;
        what = Json{{"source", Json::parse(e.described_source)},
                    {"task", e.task.sha256},
                    {"lines", e.task.lines.size()},
                    {"prompt", command.prompt}}
                   .dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    Progress done = TRY(Progress::open(command.work, what));
    std::vector<Json> names{"source"};
    for (const Contender& c : e.contenders) names.push_back(TRY(c.identity()));
    e.chosen.resize(names.size());
    std::size_t lines = 0;
    for (const Json& piece : done.pieces())
        for (std::size_t k = 0; k < names.size(); k++)
            if (piece.at("model") == names[k])
                for (const Json& label : piece.at("chosen")) e.chosen[k].push_back(label.get<std::size_t>());
    for (auto& chosen : e.chosen) {
        chosen.resize(std::min(chosen.size(), choices.size()));  // who is named twice is kept twice
        lines += chosen.size();
    }

    const std::vector<std::int32_t> shared = common_beginning(choices);
    const auto line = progress_line("evaluating");
    const auto progress = [&](std::size_t now) {
        lines += now;
        if (line) line(lines, names.size() * choices.size());
    };
    for (std::size_t k = 0; k < names.size(); k++) {
        if (e.chosen[k].size() == choices.size()) continue;
        if (k > 0 && e.contenders[k - 1].engine.engine) {
            engine::Engine& engine = *e.contenders[k - 1].engine.engine;
            const auto model = [&](std::span<const Choices> part) -> Result<std::vector<std::size_t>> {
                std::vector<std::size_t> out;
                for (const Choices& c : part) out.push_back(TRY(choose(engine, c)));
                return out;
            };
            TRY(finish(e.chosen[k], choices, names[k], model, done, progress));
            continue;
        }
        std::unique_ptr<Reference> own;
        if (k == 0) own = TRY(Reference::open(*source));
        const Reference& reference = k == 0 ? *own : *e.contenders[k - 1].reference;
        const Reference::Cache before = TRY(reference.read(shared));
        const auto model = [&](std::span<const Choices> part) { return choose_all(reference, before, part); };
        TRY(finish(e.chosen[k], choices, names[k], model, done, progress));
    }
    return e;
}

struct TaskFigures {
    double accuracy, error, relative, relative_error, agreement;
};
// model 0: the source.
TaskFigures figures(const TaskEvaluation& e, std::size_t model) {
    double right = 0, source_right = 0, lost = 0, won = 0, agree = 0;
    const auto n = static_cast<double>(e.task.lines.size());
    for (std::size_t i = 0; i < e.task.lines.size(); i++) {
        const std::size_t label = e.task.lines[i].label, own = e.chosen[model][i], theirs = e.chosen[0][i];
        right += own == label ? 1 : 0;
        source_right += theirs == label ? 1 : 0;
        lost += theirs == label && own != label ? 1 : 0;
        won += theirs != label && own == label ? 1 : 0;
        agree += own == theirs ? 1 : 0;
    }
    const double p = right / n, q = source_right / n;
    // Of the difference of two rates on the same lines, where they differ (as McNemar's test has it).
    const double difference = std::sqrt((lost + won - (lost - won) * (lost - won) / n)) / n;
    return {p, std::sqrt(p * (1 - p) / n), p / q, difference / q, agree / n};
}

Result<void> record(const EvalCommand& command, const TaskEvaluation& e, std::size_t model) {
    const TaskFigures f = figures(e, model), source = figures(e, 0);
    const Json of{{"task", {{"sha256", e.task.sha256}}}};
    const Json entry{{"file", std::filesystem::path(command.task).filename().string()},
                     {"prompt", command.prompt},
                     {"lines", e.task.lines.size()},
                     {"labels", e.task.labels.size()},
                     {"accuracy", rounded(f.accuracy)},
                     {"error", rounded(f.error)},
                     {"source_accuracy", rounded(source.accuracy)},
                     {"relative", rounded(f.relative)},
                     {"relative_error", rounded(f.relative_error)},
                     {"agreement", rounded(f.agreement)}};
    return record_evaluation(e.contenders[model - 1].path, e.described_source, of, entry);
}

}  // namespace

int run_eval_task(EvalCommand command) {
    if (command.record && std::none_of(command.models.begin(), command.models.end(), is_image))
        return fail("--record: none of the models is an image that could hold the figures");
    const auto done = evaluate(command);
    if (!done) return fail(done.error().text);
    end_progress();
    const TaskEvaluation& e = done.value();
    const TaskFigures source = figures(e, 0);
    std::printf("%zu lines, %zu labels; source: accuracy %.4f +- %.4f (float32 reference)\n", e.task.lines.size(),
                e.task.labels.size(), source.accuracy, source.error);
    std::printf("%10s %19s %19s %10s  %s\n", "MB", "accuracy", "of the source's", "agreement", "model");
    for (std::size_t i = 0; i < e.contenders.size(); i++) {
        const Contender& c = e.contenders[i];
        const TaskFigures f = figures(e, i + 1);
        std::printf("%10.3f %9.4f +- %6.4f %9.4f +- %6.4f %10.4f  %s (%s)\n", c.bytes / 1e6, f.accuracy, f.error,
                    f.relative, f.relative_error, f.agreement, c.path.c_str(),
                    c.reference ? "float32 reference" : "engine");
        if (!command.record || c.reference) continue;
        if (const auto ok = record(command, e, i + 1); !ok) return fail(ok.error().text);
    }
    return 0;
}

}  // namespace slmd::pack
