#include "agent/checks.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>

#include "agent/written.h"
#include "base/file.h"
#include "base/utf8.h"
#include "grammar/grammar.h"

namespace slmd::agent {
namespace {

// What each kind takes besides kind and name; with '!' before those that it must have.
struct Form {
    std::string_view kind, keys;
};
constexpr Form forms[] = {
    {"regex", "at, !pattern"},
    {"luhn", "at"},
    {"iban", "at"},
    {"ean", "at"},
    {"range", "at, min, max, unit, decimal"},
    {"date", "at, format, after, before"},
    {"order", "!fields, format, decimal"},
    {"source", "at"},
    {"quotes", "at"},
    {"sum", "!of, !total, plus, tolerance, decimal"},
    {"product", "!factors, !at, tolerance, decimal"},
    {"lookup", "at, table, file, ignore_case"},
    {"agree", "at, !prompt"},
};

// Calls each(key, must be there) for a form's keys.
template <class Each>
Result<void> each_key(std::string_view keys, Each&& each) {
    while (!keys.empty()) {
        const std::size_t end = std::min(keys.find(", "), keys.size());
        const bool needed = keys.starts_with('!');
        TRY(each(keys.substr(needed, end - needed), needed));
        keys.remove_prefix(std::min(end + 2, keys.size()));
    }
    return {};
}

struct Reader {
    const hal::TomlFile& file;
    const toml::table& table;
    grammar::Heap& heap;
    Check check{};
    std::string_view keys{};

    Error at(const toml::node& node, const std::string& what) const { return file.at(node, what.c_str()); }
    Error full(const toml::node& node) const {
        return Error::make(Code::memory_full, "%s:%u: the checks do not fit into the memory of an agent", file.path,
                           static_cast<unsigned>(node.source().begin.line));
    }
    // "kind, name, at, pattern" and so on.
    std::string known() const {
        std::string all = "kind, name, " + std::string(keys);
        std::erase(all, '!');
        return all;
    }

    Result<std::string_view> keep(const toml::node& node, std::string_view text) const {
        char* const kept = heap.take<char>(text.size());
        if (kept == nullptr) return full(node);
        std::copy(text.begin(), text.end(), kept);
        return std::string_view(kept, text.size());
    }
    Result<std::string_view> text(std::string_view key, const toml::node& node) const {
        const auto* const s = node.as_string();
        if (s == nullptr || s->get().empty()) return at(node, std::string(key) + " is a text in quotes, and not empty");
        return keep(node, s->get());
    }
    Result<std::string_view> pointer(std::string_view key, const toml::node& node) const {
        const auto* const s = node.as_string();
        if (s == nullptr) return at(node, std::string(key) + " is a JSON Pointer in quotes, such as \"/total\"");
        const std::string& p = s->get();
        bool good = p.empty() || p[0] == '/';
        for (std::size_t i = 0; i < p.size(); i++)
            good = good && (p[i] != '~' || (i + 1 < p.size() && (p[i + 1] == '0' || p[i + 1] == '1')));
        if (!good)
            return at(node, std::string(key) + " = \"" + p +
                                "\" is no JSON Pointer: write \"/total\", \"/lines/0/price\", or \"/lines/*/price\" "
                                "for all items (in a name ~ is ~0 and / is ~1)");
        if (std::count(p.begin(), p.end(), '/') > 16) return at(node, std::string(key) + ": at most 16 levels");
        return keep(node, p);
    }
    // Texts, read one by one.
    Result<std::span<const std::string_view>> list(
        std::string_view key, const toml::node& node, std::size_t most, const char* example,
        Result<std::string_view> (Reader::*each)(std::string_view, const toml::node&) const) const {
        const auto* const nodes = node.as_array();
        if (nodes == nullptr || nodes->empty()) return at(node, std::string(key) + " is a list: " + example);
        if (nodes->size() > most) return at(node, std::string(key) + ": at most " + std::to_string(most));
        auto* const kept = heap.take<std::string_view>(nodes->size());
        if (kept == nullptr) return full(node);
        std::size_t n = 0;
        for (const toml::node& item : *nodes) kept[n++] = TRY((this->*each)(key, item));
        return std::span<const std::string_view>(kept, n);
    }
    Result<std::span<const std::string_view>> pointers(std::string_view key, const toml::node& node) const {
        return list(key, node, 16, "[\"/from\", \"/to\"]", &Reader::pointer);
    }
    // Exactly as it is written: of a TOML number by the shortest text that gives it, which is that with up to 15
    // digits.
    Result<Decimal> decimal(std::string_view key, const toml::node& node) const {
        Decimal value = grammar::decimal_max;
        if (const auto* const i = node.as_integer()) {
            value = Decimal{i->get()} * grammar::decimal_one;
        } else if (const auto* const f = node.as_floating_point(); f != nullptr && std::isfinite(f->get())) {
            char written[32];
            const auto end = std::to_chars(written, written + sizeof written, f->get()).ptr;
            if (auto read = grammar::to_decimal({written, static_cast<std::size_t>(end - written)})) value = *read;
        } else if (const auto* const s = node.as_string()) {
            if (!read_number(s->get(), '.', value)) value = grammar::decimal_max;
        }
        if (value >= grammar::decimal_max || value <= -grammar::decimal_max)
            return at(node, std::string(key) + " is a number with at most 18 digits on each side of the point");
        return value;
    }
    Result<std::int64_t> date(std::string_view key, const toml::node& node) const {
        const std::string_view format = check.format.empty() ? iso_date : check.format;
        std::int64_t seconds = 0;
        if (const auto* const d = node.as_date()) {
            char iso[24];
            std::snprintf(iso, sizeof iso, "%04d-%02d-%02d", int{d->get().year}, int{d->get().month},
                          int{d->get().day});
            if (read_date(iso, iso_date, seconds)) return seconds;
        } else if (const auto* const s = node.as_string(); s != nullptr && read_date(s->get(), format, seconds)) {
            return seconds;
        }
        return at(node, std::string(key) + " is a date: 2024-12-31, or in quotes as " + std::string(format));
    }

    Result<void> one(std::string_view key, const toml::node& node) {
        if (key == "at" || key == "total") {
            check.at = TRY(pointer(key, node));
        } else if (key == "of") {
            auto* const kept = heap.take<std::string_view>(1);
            if (kept == nullptr) return full(node);
            kept[0] = TRY(pointer(key, node));
            check.of = {kept, 1};
        } else if (key == "fields" || key == "factors") {
            check.of = TRY(pointers(key, node));
        } else if (key == "plus") {
            check.plus = TRY(pointers(key, node));
        } else if (key == "pattern") {
            const std::string_view pattern = TRY(text(key, node));
            const auto compiled = grammar::compile_regex(pattern, heap);
            if (!compiled && compiled.error().code == Code::memory_full) return full(node);
            if (!compiled) return at(node, compiled.error().text);
            check.pattern = compiled.value().text_rule;
        } else if (key == "min") {
            check.low = TRY(decimal(key, node));
        } else if (key == "max") {
            check.high = TRY(decimal(key, node));
        } else if (key == "tolerance") {
            check.tolerance = TRY(decimal(key, node));
            if (check.tolerance < 0) return at(node, "tolerance is not below zero");
        } else if (key == "unit") {
            check.unit = TRY(text(key, node));
        } else if (key == "decimal") {
            const auto v = node.value<std::string_view>();
            if (!v || (*v != "." && *v != "," && *v != "any"))
                return at(node, "decimal is \".\" or \",\": the mark before decimals; or \"any\"");
            check.decimal = *v == "any" ? any_mark : (*v)[0];
        } else if (key == "format") {
            check.format = TRY(text(key, node));
            if (!is_date_format(check.format))
                return at(node,
                          "format has yyyy, mm, dd (or m, d), HH, MM, SS, each once: \"dd.mm.yyyy\", or several: "
                          "\"yyyy-mm-dd or dd.mm.yyyy\"");
        } else if (key == "after") {
            check.after = TRY(date(key, node));
        } else if (key == "before") {
            check.before = TRY(date(key, node));
        } else if (key == "ignore_case") {
            const auto* const b = node.as_boolean();
            if (b == nullptr) return at(node, "ignore_case is true or false");
            check.ignore_case = b->get();
        } else if (key == "prompt") {
            check.prompt = TRY(text(key, node));
        } else if (key == "table") {
            check.table = TRY(list(key, node, max_lookup_entries, "[\"red\", \"green\"]", &Reader::entry));
        } else if (key == "file") {
            TRY(lookup_file(node));
        }
        return {};
    }

    Result<std::string_view> entry(std::string_view key, const toml::node& node) const {
        const auto* const s = node.as_string();
        if (s == nullptr) return at(node, std::string(key) + " has texts in quotes");
        return folded(node, s->get());
    }
    // An entry of a table, as values will be compared with it. ignore_case was read before.
    Result<std::string_view> folded(const toml::node& node, std::string_view text) const {
        char* const kept = heap.take<char>(text.size());
        if (kept == nullptr) return full(node);
        const std::string_view entry = fold_space(text, {kept, text.size()});
        if (entry.empty()) return at(node, "an empty entry");
        if (check.ignore_case) fold_case({kept, entry.size()});
        return entry;
    }
    Result<void> lookup_file(const toml::node& node) {
        const std::string name(TRY(text("file", node)));
        if (name.find('/') != std::string::npos)
            return at(node, "file is the name of a file beside this one, without a folder");
        std::string path(file.path);
        path = path.substr(0, path.rfind('/') + 1) + name;  // without a '/' that is npos + 1: nothing
        const auto map = MappedFile::open(path.c_str());
        if (!map) return at(node, map.error().text);
        const std::span<const std::byte> bytes = map.value().bytes();
        if (bytes.size() > max_lookup_bytes)
            return at(node, name + " is larger than " + std::to_string(max_lookup_bytes) + " bytes");
        std::string_view rest(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        if (!utf8_valid(rest)) return at(node, name + " is not UTF-8");
        // Entries are folded into one copy of the file.
        const auto lines = static_cast<std::size_t>(std::count(rest.begin(), rest.end(), '\n')) + 1;
        auto* const kept = heap.take<std::string_view>(std::min(lines, max_lookup_entries));
        if (kept == nullptr) return full(node);
        std::size_t n = 0;
        while (!rest.empty()) {
            const std::size_t end = std::min(rest.find('\n'), rest.size());
            const std::string_view line = rest.substr(0, end);
            rest.remove_prefix(std::min(end + 1, rest.size()));
            if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
            if (n == max_lookup_entries)
                return at(node, name + " has more than " + std::to_string(max_lookup_entries) + " entries");
            kept[n++] = TRY(folded(node, line));
        }
        if (n == 0) return at(node, name + " has no entries");
        check.table = {kept, n};
        return {};
    }

    // What one key alone cannot tell.
    Result<void> whole() const {
        switch (check.kind) {
            case CheckKind::range:
                if (!table.contains("min") && !table.contains("max") && !table.contains("unit"))
                    return at(table, "a range has min, max or unit");
                if (check.low > check.high) return at(table, "min is above max");
                break;
            case CheckKind::date:
                if (check.after >= check.before) return at(table, "after is not before before");
                break;
            case CheckKind::order:
                if (check.of.size() == 1 && check.of[0].find("/*") == std::string_view::npos)
                    return at(table, "fields has two pointers or more, or one with *");
                break;
            case CheckKind::product: {
                const std::size_t star = check.at.rfind("/*");
                const std::string_view items =
                    star == std::string_view::npos ? std::string_view() : check.at.substr(0, star + 2);
                for (const std::string_view factor : check.of)
                    if (!factor.starts_with(items) || factor.find("/*", items.size()) != std::string_view::npos)
                        return at(table,
                                  "factors and at go through the same items: \"/lines/*/price\" and "
                                  "\"/lines/*/amount\"");
                if (check.of.size() < 2) return at(table, "factors has two pointers or more");
                break;
            }
            case CheckKind::lookup:
                if (table.contains("table") == table.contains("file"))
                    return at(table, "a lookup has either table = [\"red\", \"green\"] or file = \"colours.txt\"");
                break;
            default: break;
        }
        return {};
    }

    Result<Check> read() {
        const toml::node* const kind = table.get("kind");
        const auto form = [&] {
            const auto name = kind == nullptr ? std::nullopt : kind->value<std::string_view>();
            return std::find_if(std::begin(forms), std::end(forms),
                                [&](const Form& f) { return name && f.kind == *name; });
        }();
        if (form == std::end(forms)) {
            std::string all;
            for (const Form& f : forms) all += (all.empty() ? "" : ", ") + std::string(f.kind);
            return at(kind == nullptr ? table : *kind, "a check has a kind: " + all);
        }
        check.kind = static_cast<CheckKind>(form - std::begin(forms));
        keys = form->keys;
        const std::string allowed = known();
        for (const auto& [key, node] : table)
            if ((", " + allowed + ",").find(", " + std::string(key.str()) + ",") == std::string::npos)
                return file.unknown(key, allowed.c_str());
        // What others are read by comes first.
        for (const std::string_view key : {"format", "ignore_case"})
            if (const toml::node* const node = table.get(key)) TRY(one(key, *node));
        TRY(each_key(keys, [&](std::string_view key, bool needed) -> Result<void> {
            const toml::node* const node = table.get(key);
            if (node != nullptr) return key == "format" || key == "ignore_case" ? Result<void>() : one(key, *node);
            if (needed) return at(table, "a check of the kind " + std::string(form->kind) + " has " + std::string(key));
            return {};
        }));
        TRY(whole());
        if (!check.table.empty()) {
            auto* const entries = const_cast<std::string_view*>(check.table.data());
            std::sort(entries, entries + check.table.size());
        }
        if (const toml::node* const name = table.get("name")) {
            check.name = TRY(text("name", *name));
        } else {
            const std::string_view of = check.kind == CheckKind::order ? check.of[0] : check.at;
            check.name = TRY(keep(table, std::string(form->kind) + (of.empty() ? "" : " ") + std::string(of)));
        }
        return check;
    }
};

static_assert(std::size(forms) == static_cast<std::size_t>(CheckKind::agree) + 1);

}  // namespace

Result<Check> read_check(const hal::TomlFile& file, const toml::table& table, grammar::Heap& heap) {
    return Reader{file, table, heap}.read();
}

}  // namespace slmd::agent
