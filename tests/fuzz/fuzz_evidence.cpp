// LINK: slmd_agent
// Checks of every kind over what a model may write. Bit 0 of the first byte: it is JSON. Then, with bytes 1E between
// them: the answer, the source, a second answer, and a file of checks of its own.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "agent/checks.h"
#include "base/utf8.h"
#include "file.h"

using namespace slmd;
using namespace slmd::agent;

namespace {

constexpr const char* all = R"(check = [
  { kind = "regex", pattern = '[a-z]+' }, { kind = "regex", at = "/a/*", pattern = '\d+(\.\d+)?' },
  { kind = "luhn", at = "/a" }, { kind = "iban", at = "/iban" }, { kind = "iban" }, { kind = "ean" },
  { kind = "range", at = "/a", min = 0, max = 9 }, { kind = "range", at = "/a/*/b", unit = "°C", decimal = "," },
  { kind = "date" }, { kind = "date", at = "/d", format = "d.m.yyyy HH:MM:SS" },
  { kind = "order", fields = ["/a/*/b", "/a/*/c"] }, { kind = "order", fields = ["/a/*"] },
  { kind = "source" }, { kind = "source", at = "/a" }, { kind = "quotes" },
  { kind = "sum", of = "/a/*/b", total = "/t", plus = ["/a/*"] },
  { kind = "product", factors = ["/a/*/b", "/a/*/c"], at = "/a/*/d", tolerance = 0.5 },
  { kind = "lookup", table = ["a", "b"], ignore_case = true }, { kind = "agree", prompt = "p" },
])";

struct Read {
    explicit Read(const std::string& path, std::size_t bytes)
        : block(new std::byte[bytes]), heap({block.get(), bytes}) {
        const hal::TomlFile file{path.c_str()};
        const auto table = file.parse();
        if (!table) return;
        const toml::array* const list = table.value()["check"].as_array();
        for (std::size_t i = 0; list != nullptr && i < list->size() && count < std::size(checks); i++) {
            const toml::table* const t = list->get_as<toml::table>(i);
            if (t == nullptr) return;
            const auto check = read_check(file, *t, heap);
            if (!check) {
                if (check.error().text[0] == 0) std::abort();
                return;
            }
            checks[count++] = check.value();
        }
    }
    std::unique_ptr<std::byte[]> block;
    grammar::Heap heap;
    Check checks[24];
    std::size_t count = 0;
};

void judge(const Finding& f) {
    if (std::memchr(f.why, 0, sizeof f.why) == nullptr || !utf8_valid(f.why)) std::abort();
    if ((f.verdict == Verdict::pass) != (f.why[0] == 0)) std::abort();
    for (const char* c = f.why; *c != 0; c++)
        if (static_cast<unsigned char>(*c) < 0x20) std::abort();
}

void run(const Read& read, std::string_view answer, std::string_view source, std::string_view other, bool json) {
    // Exactly what is asked for: it is always enough, and a byte behind it is seen.
    const std::size_t bytes = examine_memory(answer.size(), source.size());
    const std::unique_ptr<std::byte[]> memory(new std::byte[bytes]);
    Finding findings[24];
    const auto failed = examine({read.checks, read.count}, answer, json, source, {memory.get(), bytes}, findings);
    if (!failed) std::abort();
    int count = 0;
    for (std::size_t i = 0; i < read.count; i++) {
        judge(findings[i]);
        count += findings[i].verdict == Verdict::fail ? 1 : 0;
        if (read.checks[i].kind != CheckKind::agree) continue;
        for (const std::string_view second : {other, answer}) {
            const std::size_t needed = examine_memory(answer.size(), 0) + examine_memory(second.size(), 0);
            const std::unique_ptr<std::byte[]> space(new std::byte[needed]);
            const auto found = compare(read.checks[i], answer, second, json, {space.get(), needed});
            if (!found) std::abort();
            judge(found.value());
            // An answer that can be read agrees with itself.
            if (second.data() == answer.data() && found.value().verdict == Verdict::fail && !answer.empty() &&
                std::strncmp(found.value().why, "JSON", 4) != 0 &&
                std::strncmp(found.value().why, "the answer", 10) != 0)
                std::abort();
        }
    }
    if (count != failed.value()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fuzz::Folder folder;
    static const Read every(folder.put("all.toml", all), 1u << 20);
    if (every.count != 19) std::abort();
    if (size == 0 || size > 8192) return 0;
    std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1), part[4];
    for (std::string_view& p : part) {
        const std::size_t end = std::min(rest.find('\x1E'), rest.size());
        p = rest.substr(0, end);
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    run(every, part[0], part[1], part[2], (data[0] & 1) != 0);
    if (!part[3].empty()) {
        const Read own(folder.put("own.toml", part[3]), 1u << 20);
        run(own, part[0], part[1], part[2], (data[0] & 1) != 0);
    }
    return 0;
}
