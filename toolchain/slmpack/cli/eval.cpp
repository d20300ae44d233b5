// slmpack eval: models against their source in float32, on the same text.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "base/file.h"
#include "commands.h"
#include "eval_plot.h"
#include "evaluation.h"
#include "toolchain/slmpack/image/import.h"
#include "toolchain/slmpack/image/parallel.h"
#include "toolchain/slmpack/reference/logits.h"

namespace slmd::pack {
namespace {

// What a window says about one model, a value a scored position.
struct Scores {
    std::vector<float> kl, nll, agree;
    void append(const Scores& o) {
        kl.insert(kl.end(), o.kl.begin(), o.kl.end());
        nll.insert(nll.end(), o.nll.begin(), o.nll.end());
        agree.insert(agree.end(), o.agree.begin(), o.agree.end());
    }
};

double mean(const std::vector<float>& v) {
    double sum = 0;
    for (const float x : v) sum += static_cast<double>(x);
    return sum / static_cast<double>(v.size());
}

// logits, source: [next.size() + 1 x vocab]; the last row is about a token that is not there.
Scores score_window(std::span<const float> source, std::span<const float> logits, std::span<const std::int32_t> next) {
    const std::size_t vocab = source.size() / (next.size() + 1);
    Scores s{std::vector<float>(next.size()), std::vector<float>(next.size()), std::vector<float>(next.size())};
    parallel(next.size(), 8, [&](std::size_t i) {
        const auto p = source.subspan(i * vocab, vocab), q = logits.subspan(i * vocab, vocab);
        const double q_sum = log_sum(q);
        s.kl[i] = static_cast<float>(divergence(p, log_sum(p), q, q_sum));
        s.nll[i] = static_cast<float>(q_sum - static_cast<double>(q[static_cast<std::size_t>(next[i])]));
        s.agree[i] =
            std::max_element(p.begin(), p.end()) - p.begin() == std::max_element(q.begin(), q.end()) - q.begin() ? 1
                                                                                                                 : 0;
    });
    return s;
}

Json to_json(const Scores& s) { return {{"kl", s.kl}, {"nll", s.nll}, {"agree", s.agree}}; }
Scores from_json(const Json& j) {
    return {j.at("kl").get<std::vector<float>>(), j.at("nll").get<std::vector<float>>(),
            j.at("agree").get<std::vector<float>>()};
}

// Of positions first .. of the window: [positions x vocab].
Result<std::vector<float>> logits_of(const Contender& c, std::span<const std::int32_t> tokens, std::size_t first,
                                     int batch) {
    if (c.reference) return c.reference->logits(tokens, first);
    struct Kept {
        std::vector<float> logits;
        std::size_t first;
    } kept{{}, first};
    const auto keep = [](void* context, int position, std::span<const float> row) {
        auto& k = *static_cast<Kept*>(context);
        if (static_cast<std::size_t>(position) >= k.first) k.logits.insert(k.logits.end(), row.begin(), row.end());
    };
    TRY(c.engine.engine->score(tokens, batch, keep, &kept));
    return std::move(kept.logits);
}

struct Evaluation {
    std::vector<Contender> contenders;
    std::vector<Scores> scores;  // of each
    Scores source;
    std::string text_sha256, described_source;  // where they are needed
};

Result<Evaluation> evaluate(const EvalCommand& command) {
    const auto source = TRY(Source::open(command.source));
    if (static_cast<std::uint32_t>(command.window) > source->params.context)
        return Error::make(Code::incorrect_parameters, "--window %d: this model's context is %u tokens", command.window,
                           source->params.context);
    Evaluation e;
    engine::Config config{.context = command.window, .threads = command.threads, .batch = command.batch};
    if (!command.level.empty()) config.level = command.level.c_str();
    for (const std::string& path : command.models)
        e.contenders.push_back(TRY(Contender::open(path, config, source->params.vocab)));
    e.scores.resize(e.contenders.size());
    const auto reference = TRY(Reference::open(*source));
    const auto tokenizer = TRY(load_tokenizer(command.source));
    const std::string text = TRY(read_text(command.text));
    const auto window = static_cast<std::size_t>(command.window);
    const auto windows = TRY(text_windows(tokenizer, text, window, static_cast<std::size_t>(command.tokens) / window));
    if (windows.empty())
        return Error::make(Code::incorrect_parameters, "%s has fewer than %zu tokens, one window", command.text.c_str(),
                           window);

    std::string what;
    if (!command.work.empty() || command.record) {  // hashing the source takes as long as reading it
        e.described_source = TRY(describe_files(source->path, source->parts)).json;
        e.text_sha256 = hex(TRY(sha256(std::as_bytes(std::span(text)))));
        Json all{{"source", Json::parse(e.described_source)},
                 {"windows", windows.size()},
                 {"window", window},
                 {"text", e.text_sha256}};
        for (const Contender& c : e.contenders) all["models"].push_back(TRY(c.identity()));
        what = all.dump();
    }
    Progress done = TRY(Progress::open(command.work, what));
    const auto progress = progress_line("evaluating");
    const std::size_t first =
        window / 2 - (window > 2 ? 1 : 0);  // its logits are about the first token of the second half
    for (std::size_t w = 0; w < windows.size(); w++) {
        const std::vector<std::int32_t>& part = windows[w];
        if (w < done.pieces().size()) {
            const Json& saved = done.pieces()[w];
            e.source.append(from_json(saved.at(0)));
            for (std::size_t i = 0; i < e.contenders.size(); i++) e.scores[i].append(from_json(saved.at(i + 1)));
            continue;
        }
        const auto next = std::span(part).subspan(first + 1);
        const std::vector<float> truth = TRY(reference->logits(part, first));
        const Scores own = score_window(truth, truth, next);
        Json line = Json::array({to_json(own)});
        e.source.append(own);
        for (std::size_t i = 0; i < e.contenders.size(); i++) {
            const std::vector<float> logits = TRY(logits_of(e.contenders[i], part, first, command.batch));
            const Scores s = score_window(truth, logits, next);
            line.push_back(to_json(s));
            e.scores[i].append(s);
        }
        TRY(done.add(line));
        if (progress) progress(w + 1, windows.size());
    }
    return e;
}

struct Figures {
    double perplexity, ratio, kl, kl_error, kl_99, kl_most, agree;
};
Figures figures(const Scores& s, double source_nll) {
    std::vector<float> sorted = s.kl;
    std::sort(sorted.begin(), sorted.end());
    const auto n = static_cast<double>(s.kl.size());
    double square = 0;
    const double kl = mean(s.kl);
    for (const float v : s.kl) square += (static_cast<double>(v) - kl) * (static_cast<double>(v) - kl);
    const double nll = mean(s.nll);
    return {std::exp(nll),
            std::exp(nll - source_nll),
            kl,
            std::sqrt(square / n / n),
            static_cast<double>(sorted[static_cast<std::size_t>(0.99 * (n - 1))]),
            static_cast<double>(sorted.back()),
            mean(s.agree)};
}

Result<void> record(const EvalCommand& command, const Evaluation& e, const Contender& c, const Figures& f) {
    const Json of{{"text", {{"sha256", e.text_sha256}}}};
    const Json figures{{"positions", e.source.kl.size()},
                       {"window", command.window},
                       {"perplexity", rounded(f.perplexity)},
                       {"ratio", rounded(f.ratio)},
                       {"kl",
                        {{"mean", rounded(f.kl)},
                         {"error", rounded(f.kl_error)},
                         {"p99", rounded(f.kl_99)},
                         {"most", rounded(f.kl_most)}}},
                       {"top1", rounded(f.agree)}};
    return record_evaluation(c.path, e.described_source, of, figures);
}

}  // namespace

int run_eval(const EvalCommand& command) {
    if (command.record && std::none_of(command.models.begin(), command.models.end(), is_image))
        return fail("--record: none of the models is an image that could hold the figures");
    const auto done = evaluate(command);
    if (!done) return fail(done.error().text);
    end_progress();
    const Evaluation& e = done.value();
    const double source_nll = mean(e.source.nll);
    std::printf("%zu positions, the second half of windows of %d tokens; source: perplexity %.4f (float32 reference)\n",
                e.source.kl.size(), command.window, std::exp(source_nll));
    std::printf("%10s %11s %9s %21s %9s %9s %8s  %s\n", "MB", "perplexity", "ratio", "KL(source || model)", "99 %",
                "most", "top-1", "model");
    std::vector<PlotPoint> points;
    for (std::size_t i = 0; i < e.contenders.size(); i++) {
        const Contender& c = e.contenders[i];
        const Figures f = figures(e.scores[i], source_nll);
        std::printf("%10.3f %11.4f %9.5f %9.5f +- %8.5f %9.5f %9.5f %8.4f  %s (%s)\n", c.bytes / 1e6, f.perplexity,
                    f.ratio, f.kl, f.kl_error, f.kl_99, f.kl_most, f.agree, c.path.c_str(),
                    c.reference ? "float32 reference" : "engine");
        points.push_back({std::filesystem::path(c.path).stem().string(), c.bytes / 1e6, f.kl, c.reference == nullptr});
        if (!command.record || c.reference) continue;
        if (const auto ok = record(command, e, c, f); !ok) return fail(ok.error().text);
    }
    if (!command.plot.empty()) {
        const std::string svg = plot_size_against_kl(points);
        if (auto ok = write_file(command.plot.c_str(), std::as_bytes(std::span(svg))); !ok)
            return fail(ok.error().text);
    }
    return 0;
}

}  // namespace slmd::pack
