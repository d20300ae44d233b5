// LINK: slmd_grammar slmd_base
// Schemas: whatever is read compiles or is refused in bounded memory, and what is compiled can be walked and closed.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "grammar/grammar.h"
#include "grammar/matcher.h"

using namespace slmd;
using namespace slmd::grammar;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size > 1024) return 0;  // closing is quadratic in the length of keys, which is nothing but for sanitizers
    static Source source;
    static const auto memory = [] {
        struct Memory {
            std::unique_ptr<std::byte[]> heap{new std::byte[1u << 20]}, scratch{new std::byte[2u << 20]}, matcher,
                source{new std::byte[Source::max_bytes * 2 + Arena::align]};
        };
        auto m = std::make_unique<Memory>();
        Arena counting;
        Matcher().lay_out(counting);
        m->matcher.reset(new std::byte[counting.used() + Arena::align]);
        Arena arena({m->source.get(), Source::max_bytes * 2 + Arena::align});
        source.lay_out(arena);
        return m;
    }();
    Heap heap({memory->heap.get(), 1u << 20}), scratch({memory->scratch.get(), 2u << 20});
    std::string text(reinterpret_cast<const char*>(data), size);
    const auto grammar = compile_schema(text, {}, heap, scratch);
    if (!grammar) {
        if (grammar.error().text[0] == 0) std::abort();
        return 0;
    }
    if (!source.open("a \"quoted\" text,\n\xC3\xA9tude \\ 36. a \"quote", grammar.value().searches, heap)) return 0;
    Matcher matcher;
    Arena counting;
    matcher.lay_out(counting);
    Arena arena({memory->matcher.get(), counting.used()});
    matcher.lay_out(arena);
    matcher.open(grammar.value(), &source);
    std::uint32_t random = 2463534242u;
    for (int i = 0; i < 60; i++) {
        const Matcher::Bytes next = matcher.next();
        int chosen = -1, seen = 0;
        for (int b = 0; b < 256; b++)
            if (next.has(static_cast<unsigned char>(b))) {
                random ^= random << 13, random ^= random >> 17, random ^= random << 5;
                if (random % static_cast<unsigned>(++seen) == 0) chosen = b;
            }
        if (chosen < 0) {
            if (!matcher.accepting()) std::abort();  // a dead end
            return 0;
        }
        if (!matcher.push(static_cast<char>(chosen))) std::abort();
        if (i % 7 == 0) matcher.keep();
    }
    static char closing[1u << 15];
    const std::uint32_t bytes = matcher.close_bytes();
    const std::size_t n = matcher.close(closing);
    if (n > sizeof closing && bytes > 1024) return 0;
    if (n > sizeof closing) std::abort();
    const std::string whole = std::string(matcher.text()) + std::string(closing, n);
    matcher.open(grammar.value(), &source);
    for (std::size_t at = 0; at < whole.size(); at += 512)
        if (!matcher.take(std::string_view(whole).substr(at, 512))) std::abort();
    if (!matcher.accepting()) std::abort();
    return 0;
}
