// slmpack quantize.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "image/layout.h"
#include "model.h"
#include "toolchain/slmpack/gptq/quantize_encoder.h"
#include "toolchain/slmpack/gptq/quantize_model.h"
#include "toolchain/slmpack/gptq/sample.h"

namespace slmd::pack {
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

namespace {

using Json = nlohmann::ordered_json;

constexpr double default_kl = 0.05;
constexpr std::size_t sampled_together = 8;

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
        record["sha256"] = hex(TRY(sha256(std::as_bytes(std::span(text)))));
    }
    record["tokens"] = sequences.size() * window;
    record["window"] = window;
    return sequences;
}

// A text a line, until there are enough; or words of the vocabulary.
Result<std::vector<Sequence>> calibration_texts(const QuantizeCommand& command, const Source& source, Json& record) {
    const auto wanted = static_cast<std::size_t>(command.tokens);
    std::vector<Sequence> texts;
    std::size_t tokens = 0;
    if (command.text.empty()) {
        texts = texts_of_vocabulary(source, wanted);
        record["text"] = "words of the vocabulary";
    } else {
        const auto tokenizer = TRY(load_tokenizer(command.source));
        const std::string text = TRY(read_text(command.text));
        std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(text.size()));
        for (std::size_t at = 0; at < text.size() && tokens < wanted;) {
            const std::size_t end = std::min(text.find('\n', at), text.size());
            Sequence line(source.params.context);
            line.resize(
                TRY(tokenizer.tokenizer.encode_fitting(std::string_view(text).substr(at, end - at), line, scratch))
                    .tokens);
            if (line.size() > 2) tokens += line.size(), texts.push_back(std::move(line));
            at = end + 1;
        }
        record["sha256"] = hex(TRY(sha256(std::as_bytes(std::span(text)))));
    }
    record["texts"] = texts.size();
    return texts;
}

Result<void> quantize_one_that_embeds(const QuantizeCommand& command, const Source& source) {
    if (command.kl != 0 || command.bytes != 0 || command.price != 0)
        return Error::make(Code::not_supported,
                           "--kl, --size and --price are for models that write; of an encoder every layer gets 4 bits");
    QuantizeEncoderOptions options;
    options.only_i4 = command.only_i4;
    options.threads = static_cast<unsigned>(command.threads);
    options.import.name = command.name;
    if (!command.no_golden) set_golden(options.import);
    Json record;
    if (command.only_i4) record["only"] = "i4";
    const std::vector<Sequence> texts = TRY(calibration_texts(command, source, record["calibration"]));
    options.import.made = record.dump();
    if (command.verbose) options.report = [](const std::string& line) { end_progress(), std::puts(line.c_str()); };
    options.progress = remaining_line("quantizing");
    const ImportSummary s = TRY(quantize_encoder(source, texts, command.output, options));
    end_progress();
    print_kinds(s);
    std::printf("%s: %.2f MB, %.2f MB open\n", command.output.c_str(), static_cast<double>(s.image_bytes) / 1e6,
                static_cast<double>(s.raw_bytes) / 1e6);
    return {};
}

// 0: another dial is set.
double asked_kl(const QuantizeCommand& command) {
    return command.bytes == 0 && command.price == 0 && command.kl == 0 ? default_kl : command.kl;
}

Result<QuantizeSummary> quantize(const QuantizeCommand& command, const Source& source) {
    QuantizeOptions options;
    options.kl = asked_kl(command);
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
    const std::vector<Sequence> sequences = TRY(calibration(command, source, record["calibration"]));
    options.description = record.dump();
    if (command.verbose)
        options.report = [](const std::string& line) {
            end_progress();
            std::puts(line.c_str());
            std::fflush(stdout);
        };
    options.progress = remaining_line("quantizing");
    return quantize_model(source, sequences, command.output, options);
}

}  // namespace

int run_quantize(const QuantizeCommand& command) {
    const auto source = open_source(command.source, true);
    if (!source) return fail(source.error().text);
    if ((source.value()->params.flags & image::flag_encoder) != 0) {
        const auto embeds = quantize_one_that_embeds(command, *source.value());
        return embeds ? 0 : fail(embeds.error().text);
    }
    const auto done = quantize(command, *source.value());
    if (!done) return fail(done.error().text);
    end_progress();
    const QuantizeSummary& s = done.value();
    print_kinds(s.image);
    std::printf("%s: %.2f MB, %.2f MB open; KL %.4f on calibration text that was held out; %.3e nats a bit\n",
                command.output.c_str(), static_cast<double>(s.image.image_bytes) / 1e6,
                static_cast<double>(s.image.raw_bytes) / 1e6, s.kl, s.nats_a_bit);
    // The dial is a forecast. Loss follows the price of a bit, nearly in proportion.
    const double asked = asked_kl(command), off = asked > 0 ? s.kl / asked : 1;
    if (off > 1.5 || off < 1 / 1.5)
        std::printf("asked was KL %.4g: --price %.2e in place of --kl comes nearer\n", asked, s.nats_a_bit / off);
    return 0;
}

}  // namespace slmd::pack
