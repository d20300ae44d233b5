// What a grammar costs for each token, for masks.py. Reads cases on standard input, "SCHEMA<TAB>TEXT" a line; writes a
// JSON object a line: compile_ns, tokens of the text, and for each token and the end, ns of: check (the drawn token is
// taken?), mask (all that are), step (what a decode does: is little allowed? then the mask, else the check; then the
// token is taken and what is forced looked for).
//   bench_masks IMAGE vocabulary > PIECES     the tokens' bytes in hexadecimal, a line each; "" for those that write
//                                             nothing
//   bench_masks IMAGE time < CASES
//   bench_masks IMAGE passes < CASES          each "SCHEMA<TAB>TEXT<TAB>PROMPT": a JSON object a line: the tokens of
//                                             the text, and the passes of a model that wants to write just it
#include <time.h>

#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "image/image.h"
#include "task/constraint.h"
#include "tests/task/stand_in.h"
#include "text/tokenizer.h"

using namespace slmd;

namespace {

long now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

int failed(const Error& e) {
    std::fprintf(stderr, "bench_masks: %s\n", e.text);
    return 1;
}

struct Nothing final : task::TextSink {
    void append(std::string_view) override {}
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return std::fputs("bench_masks IMAGE vocabulary|time|passes\n", stderr), 64;
    const auto image = image::Image::open(argv[1], {});
    if (!image) return failed(image.error());
    const auto tokenizer = text::Tokenizer::open(image.value().section(image::SectionId::tokenizer));
    if (!tokenizer) return failed(tokenizer.error());
    const text::Tokenizer& t = tokenizer.value();
    grammar::Vocabulary vocabulary;
    task::Constraint constraint;
    Arena counting;
    vocabulary.lay_out(counting, t.vocab());
    constraint.lay_out(counting, vocabulary);
    const std::unique_ptr<std::byte[]> memory(new std::byte[counting.used() + Arena::align]());
    Arena arena({memory.get(), counting.used()});
    vocabulary.lay_out(arena, t.vocab());
    constraint.lay_out(arena, vocabulary);
    task::build(t, vocabulary);
    if (std::strcmp(argv[2], "vocabulary") == 0) {
        for (std::int32_t i = 0; i < t.vocab(); i++) {
            for (const char c : vocabulary.piece(i)) std::printf("%02x", static_cast<unsigned char>(c));
            std::puts("");
        }
        return 0;
    }
    std::vector<std::byte> scratch(task::Constraint::scratch_bytes), encode(text::Tokenizer::scratch_bytes(65536));
    std::vector<std::int32_t> tokens(65536);
    for (std::string line; std::getline(std::cin, line);) {
        const std::size_t tab = line.find('\t');
        std::string schema = line.substr(0, tab);
        std::string text = line.substr(tab + 1), prompt;
        if (const std::size_t end = text.find('\t'); end != std::string::npos) {
            prompt = text.substr(end + 1);
            text.resize(end);
        }
        const long begin = now();
        const auto opened = constraint.open(task::Constraint::Kind::schema, schema, {}, scratch);
        const long compiled = now() - begin;
        if (!opened) return failed(opened.error());
        const auto n = t.encode(text, {}, false, tokens, encode);
        if (!n) return failed(n.error());
        if (std::strcmp(argv[2], "passes") == 0) {
            Nothing sink;
            auto made = test::write(t, constraint, text, prompt, 3, sink);
            if (!made) return failed(made.error());
            std::printf("{\"tokens\":%zu,\"passes\":%d,\"guesses\":%d,\"right\":%d}\n", n.value(), made->passes,
                        made->guesses, made->right);
            continue;
        }
        // What is forced from the beginning comes with the prompt.
        char forced[256];
        std::size_t forced_bytes = constraint.matcher().forced(forced);
        std::printf("{\"compile_ns\":%ld,\"tokens\":[", compiled);
        for (std::size_t i = 0; i < n.value(); i++) std::printf("%s%d", i > 0 ? "," : "", tokens[i]);
        std::string checks, masks, steps;
        for (std::size_t i = 0; i < n.value(); i++) {
            const long a = now();
            bool good = constraint.allows(t, tokens[i]);
            const long b = now();
            const auto mask = constraint.allowed(t);
            const long c = now();
            if (!good || (mask[static_cast<std::size_t>(tokens[i]) / 64] >> tokens[i] % 64 & 1) == 0)
                return std::fprintf(stderr, "not allowed: %s\n", line.c_str()), 1;
            const long d = now();
            // What is forced is not decoded.
            const std::string_view piece = t.piece(tokens[i]);
            if (forced_bytes >= piece.size()) {
                forced_bytes -= piece.size();
                constraint.matcher().take(piece);
                // The last one is drawn where it could have been longer, as Generation has it.
                if (forced_bytes == 0 && constraint.draws_last(tokens[i]))
                    forced_bytes = constraint.matcher().forced(forced);
            } else {
                if (constraint.few(t).empty()) good = constraint.allows(t, tokens[i]);
                constraint.matcher().take(piece);
                forced_bytes = constraint.matcher().forced(forced);
            }
            const long e = now();
            const auto add = [&](std::string& list, long v) { list += (list.empty() ? "" : ",") + std::to_string(v); };
            add(checks, b - a), add(masks, c - b), add(steps, e - d);
        }
        std::printf("],\"check\":[%s],\"mask\":[%s],\"step\":[%s]}\n", checks.c_str(), masks.c_str(), steps.c_str());
    }
    return 0;
}
