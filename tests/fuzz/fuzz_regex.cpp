// LINK: slmd_grammar slmd_base
// Bytes as a pattern. The first says how it is read: bit 0 from end to end, bit 1 the encoding.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "grammar/automaton.h"
#include "grammar/regex.h"

namespace {

using namespace slmd;
using namespace slmd::grammar;

void check(const Automaton& a) {
    if (a.states < 0 || a.states > Automaton::max_states) abort();
    if (a.states == 0) return;
    if (a.classes < 1 || a.classes > 256) abort();
    for (int b = 0; b < 256; b++)
        if (a.byte_class[b] >= a.classes) abort();
    for (int s = 0; s < a.states; s++) {
        int least = a.label[s] != 0 ? 0 : 0x10000;
        if (a.label[s] > 1) abort();
        for (int c = 0; c < a.classes; c++) {
            const std::uint16_t to = a.next[s * a.classes + c];
            if (to == Automaton::dead) continue;
            if (to >= a.states) abort();
            if (a.to_end[to] + 1 < least) least = a.to_end[to] + 1;
        }
        if (a.to_end[s] != least) abort();
    }
    // The shortest text.
    std::string text;
    for (std::uint16_t s = 0; a.to_end[s] > 0;) {
        int b = 0;
        while (a.step(s, static_cast<unsigned char>(b)) == Automaton::dead ||
               a.to_end[a.step(s, static_cast<unsigned char>(b))] >= a.to_end[s])
            if (++b == 256) abort();
        text += static_cast<char>(b);
        s = a.step(s, static_cast<unsigned char>(b));
    }
    if (!accepts(a, text)) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    alignas(16) static std::byte block[1 << 20];
    if (size == 0) return 0;
    const std::string_view pattern(reinterpret_cast<const char*>(data) + 1, size - 1);
    const bool whole = (data[0] & 1) != 0;
    const Encoding encoding = (data[0] & 2) != 0 ? Encoding::json : Encoding::utf8;
    Heap heap(block);
    auto made = regex(pattern, whole, encoding, heap);
    if (!made) {
        if (heap.used() != 0) abort();
        return 0;
    }
    check(made.value());
    // What is found is in some text, and the two sides of a cut are the whole.
    const std::size_t used = heap.used();
    auto all = regex("[^]*", true, encoding, heap);
    if (!all) return 0;
    auto others = difference(all.value(), made.value(), heap);
    if (!others) return 0;
    check(others.value());
    auto both = intersection(made.value(), others.value(), heap);
    if (both && both->states != 0) abort();
    auto back = difference(all.value(), others.value(), heap);
    if (back && back->states != made->states) abort();
    if (heap.used() < used) abort();
    return 0;
}
