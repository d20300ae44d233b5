// LINK: slmd_route
// Any text: what is taken out comes back, nothing that was taken out is left, and an error says why.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "route/redact.h"

using namespace slmd::route;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size > 8192) return 0;
    const std::string text(reinterpret_cast<const char*>(data), size);
    constexpr std::string_view terms[] = {"Ada Lovelace", "\xC3\xA9t\xC3\xA9"};
    std::vector<char> values(16384), out(65536), back(65536);
    std::vector<Redactor::Value> table(300);
    Redactor redactor(values, table, terms);
    // An agent's pattern may begin and end anywhere, inside a word above all.
    constexpr auto own = [](const void*, std::string_view t, std::size_t at) -> std::size_t {
        return t[at] == 'z' || t[at] == '~' ? at + 1 : 0;
    };
    for (int turn = 0; turn < 3; turn++) {  // the second one finds every value there
        if (turn == 2) redactor.look_for(terms, {own, nullptr});
        const auto redacted = redactor.redact(text, out);
        if (!redacted) {
            if (redacted.error().text[0] == 0 || !redactor.findings().empty()) std::abort();
            return 0;
        }
        std::size_t at = 0;
        for (const Finding& f : redactor.findings()) {
            if (f.begin < at || f.end <= f.begin || f.end > size) std::abort();
            at = f.end;
        }
        const auto restored = redactor.restore(redacted.value(), back);
        if (!restored || restored.value() != text) std::abort();
    }
    return 0;
}
