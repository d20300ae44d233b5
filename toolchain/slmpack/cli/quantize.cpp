// slmpack quantize.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "image/layout.h"
#include "model.h"
#include "toolchain/slmpack/gptq/quantize_model.h"
#include "toolchain/slmpack/gptq/sample.h"

namespace slmd::pack {
namespace {

using Json = nlohmann::ordered_json;

constexpr double default_kl = 0.05;
constexpr std::size_t sampled_together = 8;

// "quantizing  43 %, 6 min left". What was done by an earlier run does not count.
std::function<void(double)> remaining_line(const char* label) {
    if (isatty(STDERR_FILENO) == 0) return {};
    return [label, start = std::chrono::steady_clock::now(), first = -1.0](double part) mutable {
        if (first < 0) first = part;
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        char text[64];
        if (part > first + 0.01)
            std::snprintf(text, sizeof text, "%s %3.0f %%, %.0f min left   ", label, part * 100,
                          seconds / (part - first) * (1 - part) / 60);
        else
            std::snprintf(text, sizeof text, "%s %3.0f %%", label, part * 100);
        show_progress(text);
    };
}

// Windows of the text; or what the model writes.
Result<std::vector<Sequence>> calibration(const QuantizeCommand& command, const Source& source, Json& record) {
    const auto window = static_cast<std::size_t>(command.window),
               count = static_cast<std::size_t>(command.tokens) / window;
    if (window > source.params.context)
        return Error::make(Code::incorrect_parameters, "--window %zu: this model's context is %u tokens", window,
                           source.params.context);
    std::vector<Sequence> sequences;
    if (command.text.empty()) {
        const engine::Config config{.context = command.window, .slots = sampled_together, .threads = command.threads};
        const LoadedEngine loaded = TRY(load_engine(command.source, config));
        // Where the model has a beginning of text, that; otherwise texts begin with tokens from all over the
        // vocabulary.
        std::vector<std::int32_t> start;
        if (source.tokenizer.bos >= 0) start.push_back(source.tokenizer.bos);
        for (std::uint64_t i = 0; start.empty() || (source.tokenizer.bos < 0 && i < count); i++)
            start.push_back(static_cast<std::int32_t>(i * 7919 % source.params.vocab));
        sequences =
            TRY(sample_sequences(*loaded.engine, count, window, start, remaining_line("writing calibration text")));
        end_progress();
        record["text"] = "sampled from the model";
    } else {
        const auto tokenizer = TRY(load_tokenizer(command.source));
        const std::string text = TRY(read_text(command.text));
        sequences = TRY(text_windows(tokenizer, text, window, count));
        record["sha256"] = hex(TRY(image::sha256(std::as_bytes(std::span(text)))));
    }
    record["tokens"] = sequences.size() * window;
    record["window"] = window;
    return sequences;
}

Result<QuantizeSummary> quantize(const QuantizeCommand& command) {
    const auto source = TRY(Source::open(command.source));
    QuantizeOptions options;
    options.kl = command.kl != 0 || command.bytes != 0 || command.price != 0 ? command.kl : default_kl;
    options.bytes = command.bytes;
    options.nats_a_bit = command.price;
    options.choice = {command.resident, command.only_i4};
    options.threads = static_cast<unsigned>(command.threads);
    options.work = command.work.empty() ? command.output + ".work" : command.work;
    options.import.name = command.name;
    options.import.chat_template = command.chat_template;
    if (!command.no_golden) set_golden(options.import);
    Json record;
    if (options.kl != 0) record["kl"] = options.kl;
    if (options.bytes != 0) record["bytes"] = options.bytes;
    if (options.nats_a_bit != 0) record["nats_a_bit"] = options.nats_a_bit;
    record["resident"] = command.resident;
    if (command.only_i4) record["only"] = "i4";
    const std::vector<Sequence> sequences = TRY(calibration(command, *source, record["calibration"]));
    options.description = record.dump();
    if (command.verbose)
        options.report = [](const std::string& line) {
            end_progress();
            std::puts(line.c_str());
            std::fflush(stdout);
        };
    options.progress = remaining_line("quantizing");
    return quantize_model(*source, sequences, command.output, options);
}

}  // namespace

int run_quantize(const QuantizeCommand& command) {
    const auto done = quantize(command);
    if (!done) return fail(done.error().text);
    end_progress();
    const QuantizeSummary& s = done.value();
    print_kinds(s.image);
    std::printf("%s: %.2f MB, %.2f MB open; %.3e nats a bit; losses add up to %.4f nats\n", command.output.c_str(),
                static_cast<double>(s.image.image_bytes) / 1e6, static_cast<double>(s.image.raw_bytes) / 1e6,
                s.nats_a_bit, s.loss);
    return 0;
}

}  // namespace slmd::pack
