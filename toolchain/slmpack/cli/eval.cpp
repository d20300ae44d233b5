// An image on the engine against its source on the float32 reference.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <thread>

#include "commands.h"
#include "model.h"
#include "toolchain/slmpack/reference/reference.h"

namespace slmd::pack {
namespace {

struct Score {
    double source_nll = 0, image_nll = 0, kl = 0, kl_squared = 0;
    std::size_t count = 0, agree = 0;
    void operator+=(const Score& o) {
        source_nll += o.source_nll;
        image_nll += o.image_nll;
        kl += o.kl;
        kl_squared += o.kl_squared;
        count += o.count;
        agree += o.agree;
    }
};

// log(sum(exp(x)))
double log_sum(std::span<const float> x) {
    const float largest = *std::max_element(x.begin(), x.end());
    double sum = 0;
    for (const float v : x) sum += std::exp(v - largest);
    return largest + std::log(sum);
}

// One position: the token that came next, and KL(source || image) of the two distributions.
void score_position(std::span<const float> source, std::span<const float> image, std::int32_t next, Score& score) {
    const double source_log = log_sum(source), image_log = log_sum(image);
    double kl = 0;
    for (std::size_t i = 0; i < source.size(); i++) {
        const double p = source[i] - source_log, q = image[i] - image_log;
        if (p > -50) kl += std::exp(static_cast<float>(p)) * (p - q);
    }
    score.source_nll += source_log - source[static_cast<std::size_t>(next)];
    score.image_nll += image_log - image[static_cast<std::size_t>(next)];
    score.kl += kl;
    score.kl_squared += kl * kl;
    score.agree += std::max_element(source.begin(), source.end()) - source.begin() ==
                   std::max_element(image.begin(), image.end()) - image.begin();
    score.count++;
}

Result<Score> evaluate(const EvalCommand& command) {
    const auto source = TRY(Source::open(command.source));
    if (static_cast<std::uint32_t>(command.window) > source->params.context)
        return Error::make(Code::incorrect_parameters, "--window %d: this model's context is %u tokens", command.window,
                           source->params.context);
    const auto reference = TRY(Reference::open(*source));
    engine::Config config{.context = command.window, .threads = command.threads, .batch = command.batch};
    if (!command.level.empty()) config.level = command.level.c_str();
    const LoadedEngine loaded = TRY(load_engine(command.image, config));
    const auto vocab = static_cast<std::size_t>(loaded.engine->vocab());
    if (vocab != reference->params().vocab)
        return Error::make(Code::incorrect_parameters, "%s has %zu tokens and %s has %u: not the same model",
                           command.image.c_str(), vocab, command.source.c_str(), reference->params().vocab);
    const auto tokenizer = TRY(load_tokenizer(command.image));
    const std::string text = TRY(read_text(command.text));
    auto tokens = TRY(tokenizer.encode(text, false, false));
    const auto start = TRY(tokenizer.encode("", true, false));
    const bool bos = !start.empty() && start[0] == tokenizer.tokenizer.bos();
    const auto window = static_cast<std::size_t>(command.window);
    tokens.resize(std::min(tokens.size(), static_cast<std::size_t>(command.tokens)) / window * window);
    if (tokens.empty())
        return Error::make(Code::incorrect_parameters, "%s has fewer than %zu tokens, one window", command.text.c_str(),
                           window);

    Score total;
    const auto progress = progress_line("evaluating");
    const std::size_t first =
        window / 2 - (window > 2 ? 1 : 0);  // its logits are about the first token of the second half
    std::vector<float> image_logits(window * vocab);
    for (std::size_t at = 0; at < tokens.size(); at += window) {
        std::vector<std::int32_t> part(tokens.begin() + static_cast<std::ptrdiff_t>(at),
                                       tokens.begin() + static_cast<std::ptrdiff_t>(at + window));
        if (bos) part[0] = tokenizer.tokenizer.bos();  // each window is a text of its own
        const auto source_logits = TRY(reference->logits(part, first));
        const auto keep = [](void* context, int position, std::span<const float> row) {
            std::memcpy(static_cast<float*>(context) + static_cast<std::size_t>(position) * row.size(), row.data(),
                        row.size_bytes());
        };
        TRY(loaded.engine->score(part, command.batch, keep, image_logits.data()));

        const std::size_t cores = std::max(1u, std::thread::hardware_concurrency());
        std::vector<Score> scores(cores);
        {
            std::vector<std::jthread> threads;
            for (std::size_t core = 0; core < cores; core++)
                threads.emplace_back([&, core] {
                    Score score;
                    for (std::size_t i = first + core; i + 1 < window; i += cores)
                        score_position(std::span(source_logits).subspan((i - first) * vocab, vocab),
                                       std::span(image_logits).subspan(i * vocab, vocab), part[i + 1], score);
                    scores[core] = score;
                });
        }
        for (const Score& score : scores) total += score;
        if (progress) progress(at + window, tokens.size());
    }
    return total;
}

}  // namespace

int run_eval(const EvalCommand& command) {
    const auto done = evaluate(command);
    if (!done) return fail(done.error().text);
    end_progress();
    const Score& s = done.value();
    const auto n = static_cast<double>(s.count);
    const double source = std::exp(s.source_nll / n), image = std::exp(s.image_nll / n), kl = s.kl / n;
    std::printf("positions            %zu, the second half of windows of %d tokens\n", s.count, command.window);
    std::printf("perplexity, source   %.4f (float32 reference)\n", source);
    std::printf("perplexity, image    %.4f (engine)\n", image);
    std::printf("ratio                %.5f\n", image / source);
    std::printf("KL(source || image)  %.5f +- %.5f nat\n", kl,
                std::sqrt(std::max(0.0, s.kl_squared / n - kl * kl) / n));
    std::printf("top-1 agreement      %.4f\n", static_cast<double>(s.agree) / n);
    return 0;
}

}  // namespace slmd::pack
