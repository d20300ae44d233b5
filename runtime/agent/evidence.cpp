#include "agent/evidence.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "agent/pointer.h"
#include "agent/written.h"
#include "base/check_digits.h"
#include "base/json.h"
#include "base/utf8.h"
#include "grammar/grammar.h"

namespace slmd::agent {
namespace {

using grammar::Heap;

// Bytes of sources that the checks of one answer look through: 500 values in 16 KiB.
constexpr std::size_t max_looked = 8u << 20;

// A value in a message.
constexpr std::size_t shown_bytes = 40;
struct Shown {
    explicit Shown(std::string_view value) : text(clipped(value, shown_bytes)) {}
    int size() const { return static_cast<int>(text.size()); }
    const char* data() const { return text.data(); }
    std::string_view text;
};

// Up to the last "*" that all of them go through; what follows it differs.
std::string_view common_items(std::span<const std::string_view> pointers) {
    std::string_view common = pointers[0];
    for (const std::string_view p : pointers.subspan(1)) {
        std::size_t n = 0;
        while (n < common.size() && n < p.size() && common[n] == p[n]) n++;
        common = common.substr(0, n);
    }
    while (!common.empty()) {
        const std::size_t star = common.rfind("/*");
        if (star == std::string_view::npos) return {};
        common = common.substr(0, star + 2);
        // "/*x" is a name.
        if (std::all_of(pointers.begin(), pointers.end(),
                        [&](std::string_view p) { return p.size() == common.size() || p[common.size()] == '/'; }))
            return common;
        common.remove_suffix(1);
    }
    return {};
}

// An answer as it was read, in memory of its own.
class Answer {
  public:
    struct Memory {
        std::span<char> copy;
        std::span<JsonNode> nodes;
        std::span<int> found;
    };
    static std::size_t most_values(std::size_t bytes) { return std::min(bytes / 2 + 2, max_answer_values); }
    static std::size_t bytes(std::size_t answer) {
        return answer + most_values(answer) * (sizeof(JsonNode) + 2 * sizeof(int)) + 2 * alignof(JsonNode);
    }
    static Result<Memory> take(std::size_t answer, Heap& heap) {
        const std::size_t n = most_values(answer);
        const Memory m{{heap.take<char>(answer), answer}, {heap.take<JsonNode>(n), n}, {heap.take<int>(2 * n), 2 * n}};
        if (m.copy.data() == nullptr || m.nodes.data() == nullptr || m.found.data() == nullptr)
            return Error::make(Code::memory_full, "no memory to check an answer of %zu bytes", answer);
        return m;
    }

    Answer(const Memory& m, std::string_view text, bool json)
        : reader_(m.nodes, grammar::max_depth + 1), found_(m.found), json_(json) {
        std::copy(text.begin(), text.end(), m.copy.begin());
        if (text.empty()) {
            error_ = Error::make(Code::incorrect_parameters, "the answer is empty");
        } else if (json) {
            if (const auto read = reader_.parse(m.copy); !read) error_ = read.error();
        } else if (!utf8_valid(text)) {
            error_ = Error::make(Code::invalid_characters, "the answer is not UTF-8");
        } else {
            m.nodes[0] = {};
            m.nodes[0].type = JsonType::string, m.nodes[0].text = {m.copy.data(), m.copy.size()}, m.nodes[0].next = 1;
        }
    }
    bool json() const { return json_; }
    // Why there is nothing to be checked; empty when there is.
    const char* error() const { return error_.text; }
    const JsonReader& reader() const { return reader_; }
    const JsonNode& node(int index) const { return reader_.node(index); }

    // The values to which the pointer leads from a node. They stay until release() of what count() was before.
    std::span<const int> find(std::string_view pointer, int from) {
        const std::size_t begin = count_;
        collect(pointer, from);
        return found_.subspan(begin, count_ - begin);
    }
    std::size_t count() const { return count_; }
    void release(std::size_t count) { count_ = count; }

  private:
    void collect(std::string_view pointer, int from) {
        while (!pointer.empty()) {
            const std::size_t end = std::min(pointer.find('/', 1), pointer.size());
            const std::string_view segment = pointer.substr(1, end - 1);
            pointer.remove_prefix(end);
            if (const JsonNode& n = node(from); n.type == JsonType::array && segment == "*") {
                for (int i = reader_.first(n); i < n.next; i = node(i).next) collect(pointer, i);
                return;
            }
            from = child_at(reader_, from, segment);
            if (from < 0) return;
        }
        // Of one pointer all are different, and no more than two pointers' values are kept at a time.
        if (count_ < found_.size() && node(from).type != JsonType::null) found_[count_++] = from;
    }

    JsonReader reader_;
    std::span<int> found_;
    std::size_t count_ = 0;
    bool json_;
    Error error_{};
};

std::string_view text_of(const JsonNode& n) {
    return n.type == JsonType::boolean ? n.truth ? "true" : "false" : n.text;
}
bool is_container(const JsonNode& n) { return n.type == JsonType::object || n.type == JsonType::array; }
const char* s_of(std::size_t n) { return n == 1 ? "" : "s"; }

// A JSON number; false when it has digits that a decimal has not.
bool exact(const JsonNode& n, Decimal& value) {
    const auto read = grammar::to_decimal(n.text);
    if (!read || read.value() >= grammar::decimal_max || read.value() <= -grammar::decimal_max) return false;
    value = read.value();
    return true;
}
bool amount(const Check& c, const JsonNode& n, Decimal& value) {
    if (n.type == JsonType::number) return exact(n, value);
    return n.type == JsonType::string && read_amount(n.text, c.decimal, value);
}
// As written, for messages.
int decimals_of(const Check& c, const JsonNode& n) {
    const std::size_t mark = n.text.rfind(n.type == JsonType::number ? '.' : mark_of(n.text, c.decimal));
    if (mark == std::string_view::npos) return 0;
    const auto rest = n.text.substr(mark + 1);
    return static_cast<int>(std::count_if(rest.begin(), rest.end(), [](char d) { return d >= '0' && d <= '9'; }));
}

class Examiner {
  public:
    Examiner(Answer& answer, std::string_view source, std::span<char> folded_source, std::span<char> scratch)
        : answer_(answer), source_(source), folded_source_(fold_space(source, folded_source)), scratch_(scratch) {}

    Finding run(const Check& c) {
        finding_ = {&c, Verdict::absent, {}};
        item_ = 0;
        answer_.release(0);
        if (answer_.error()[0] != 0)
            finding_.verdict = fail("%s", answer_.error());
        else if (!answer_.json() && needs_json(c))
            finding_.verdict = absent("the answer is a text and has no fields");
        else
            finding_.verdict = judge(c);
        tidy();
        return finding_;
    }

    // Of the values of two answers.
    Finding same(const Check& c, Answer& other) {
        finding_ = {&c, Verdict::absent, {}};
        finding_.verdict = [&] {
            for (const Answer* a : {&answer_, &other})
                if (a->error()[0] != 0) return fail("%s%s", a == &other ? "the second answer: " : "", a->error());
            const auto one = answer_.find(c.at, 0), two = other.find(c.at, 0);
            if (one.empty() && two.empty()) return absent("neither answer has it");
            if (one.size() != two.size())
                return fail("%zu value%s, and %zu in the second answer", one.size(), s_of(one.size()), two.size());
            for (std::size_t i = 0; i < one.size(); i++) {
                const JsonNode &a = answer_.node(one[i]), &b = other.node(two[i]);
                item_ = one.size() > 1 ? i + 1 : 0;
                if (equal(a, other, b)) continue;
                if (is_container(a) || is_container(b)) return fail("the second answer differs");
                const Shown x(clipped(text_of(a), 24)), y(clipped(text_of(b), 24));
                return fail("\"%.*s\", and in the second answer \"%.*s\"", x.size(), x.data(), y.size(), y.data());
            }
            return Verdict::pass;
        }();
        tidy();
        return finding_;
    }

  private:
    [[gnu::format(printf, 2, 3)]] Verdict fail(const char* format, ...) {
        va_list args;
        va_start(args, format);
        write(format, args);
        va_end(args);
        return Verdict::fail;
    }
    [[gnu::format(printf, 2, 3)]] Verdict absent(const char* format, ...) {
        va_list args;
        va_start(args, format);
        write(format, args);
        va_end(args);
        return Verdict::absent;
    }
    void write(const char* format, va_list args) {
        int n = 0;
        if (item_ > 0) n = std::snprintf(finding_.why, sizeof finding_.why, "item %zu: ", item_);
        std::vsnprintf(finding_.why + n, sizeof finding_.why - static_cast<std::size_t>(n), format, args);
    }
    // One line of UTF-8, though it may have been cut.
    void tidy() {
        std::size_t n = 0;
        for (std::size_t at = 0, end = std::strlen(finding_.why); at < end;) {
            const int bytes = utf8_length({finding_.why + at, end - at});
            if (bytes < 0) break;
            const char c = finding_.why[at];
            const bool shown = bytes > 1 || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F && bytes == 1);
            for (int i = 0; i < std::max(bytes, 1); i++, at++) finding_.why[n++] = shown ? finding_.why[at] : ' ';
        }
        finding_.why[n] = 0;
    }

    Verdict judge(const Check& c) {
        switch (c.kind) {
            case CheckKind::order: return order(c);
            case CheckKind::sum: return sum(c);
            case CheckKind::product: return product(c);
            case CheckKind::agree: return absent("not asked a second time");
            default: break;
        }
        // Every value there; where texts are looked for, every one within them.
        const auto values = answer_.find(c.at, 0);
        const bool inner = c.kind == CheckKind::source || c.kind == CheckKind::quotes;
        const bool several = values.size() > 1 || (inner && !values.empty() && is_container(answer_.node(values[0])));
        Verdict all = Verdict::absent;
        std::size_t number = 0;
        for (const int v : values) {
            for (int i = v; i < answer_.node(v).next;) {
                const JsonNode& n = answer_.node(i);
                i = inner && is_container(n) ? i + 1 : n.next;
                if (n.type == JsonType::null || (inner && is_container(n))) continue;
                number++;
                item_ = several ? number : 0;
                const Verdict verdict = is_container(n) ? fail("it is an array or an object") : value(c, n);
                if (verdict == Verdict::fail) return verdict;
                if (verdict == Verdict::pass) all = verdict;
            }
        }
        item_ = 0;
        if (all == Verdict::absent)
            return absent("%s", c.kind == CheckKind::quotes && number > 0 ? "nothing is quoted" : "no such value");
        return all;
    }

    Verdict value(const Check& c, const JsonNode& n) {
        const std::string_view text = fold_space(text_of(n), scratch_);
        const Shown shown(text);
        switch (c.kind) {
            case CheckKind::regex:
                if (grammar::accepts(c.pattern, text_of(n))) return Verdict::pass;
                return fail("\"%.*s\" does not match the pattern", shown.size(), shown.data());
            case CheckKind::luhn: return digits(text, 2, 64);
            case CheckKind::ean: return digits(text, 8, 14);
            case CheckKind::iban: return iban(text);
            case CheckKind::range: return range(c, n);
            case CheckKind::date: {
                std::int64_t seconds;
                if (!read_date(text, format(c), seconds))
                    return fail("\"%.*s\" is no day written as %.*s", shown.size(), shown.data(),
                                static_cast<int>(format(c).size()), format(c).data());
                if (seconds <= c.after) return fail("%.*s is too early", shown.size(), shown.data());
                if (seconds >= c.before) return fail("%.*s is too late", shown.size(), shown.data());
                return Verdict::pass;
            }
            case CheckKind::source: {
                Decimal number;
                if (n.type == JsonType::boolean) return fail("\"%s\" stands in no text", text_of(n).data());
                if (!may_look()) return too_much();
                const bool there = n.type == JsonType::number && exact(n, number) ? number_stands(number, {}, source_)
                                                                                  : stands(text, folded_source_);
                if (there) return Verdict::pass;
                return fail("\"%.*s\" does not stand in the input", shown.size(), shown.data());
            }
            case CheckKind::quotes: return quotes(n);
            case CheckKind::lookup:
                if (c.ignore_case) fold_case({scratch_.data(), text.size()});
                if (std::binary_search(c.table.begin(), c.table.end(), text)) return Verdict::pass;
                return fail("\"%.*s\" is not in the list", shown.size(), shown.data());
            default: return Verdict::absent;
        }
    }

    static std::string_view format(const Check& c) { return c.format.empty() ? iso_date : c.format; }

    // The last digit checks the others: of Luhn's every second one counts twice, of a GTIN three times.
    Verdict digits(std::string_view text, int least, int most) {
        const bool gtin = most == 14;
        const Shown shown(text);
        int sum = 0, n = 0;
        for (std::size_t i = text.size(); i-- > 0;) {
            if (text[i] == ' ' || text[i] == '-') continue;
            if (text[i] < '0' || text[i] > '9' || n == most)
                return fail("\"%.*s\" is not a number of %d to %d digits", shown.size(), shown.data(), least, most);
            int d = text[i] - '0';
            if (n++ % 2 == 1) d *= gtin ? 3 : 2;
            sum += !gtin && d > 9 ? d - 9 : d;
        }
        if (n < least || (gtin && (n == 9 || n == 10 || n == 11)))
            return fail("\"%.*s\" has %d digits%s", shown.size(), shown.data(), n, gtin ? ", not 8, 12, 13 or 14" : "");
        if (sum % 10 != 0) return fail("%.*s: the check digit is wrong", shown.size(), shown.data());
        return Verdict::pass;
    }

    Verdict iban(std::string_view text) {
        const Shown shown(text);
        char digit[34];
        std::size_t n = 0;
        for (const char c : text) {
            if (c == ' ') continue;
            if ((c < '0' || c > '9') && (c < 'A' || c > 'Z'))
                return fail("\"%.*s\" has more than digits and capital letters", shown.size(), shown.data());
            if (n == sizeof digit) return fail("%.*s is longer than any IBAN", shown.size(), shown.data());
            digit[n++] = c;
        }
        if (n < 5) return fail("\"%.*s\" is too short for an IBAN", shown.size(), shown.data());
        const std::size_t length = iban_length({digit, 2});
        if (length == 0) return fail("%.2s has no IBANs", digit);
        if (n != length) return fail("an IBAN of %.2s has %zu characters, this one %zu", digit, length, n);
        // 98 - remainder: 00, 01 and 99 give the same remainder as others and are never issued.
        const std::string_view check(digit + 2, 2);
        if (iban_rest({digit, n}) != 1 || check == "00" || check == "01" || check == "99" || check[0] > '9' ||
            check[1] > '9')
            return fail("%.*s: the check digits are wrong", shown.size(), shown.data());
        return Verdict::pass;
    }

    Verdict range(const Check& c, const JsonNode& n) {
        std::string_view text = fold_space(text_of(n), scratch_);
        const Shown shown(text);
        const auto unit = static_cast<int>(c.unit.size());
        Decimal v;
        if (n.type == JsonType::number) {
            if (!exact(n, v)) return no_number(n);
            if (unit > 0 && !may_look()) return too_much();
            if (unit > 0 && !number_stands(v, c.unit, source_))
                return fail("%.*s %.*s does not stand in the input", shown.size(), shown.data(), unit, c.unit.data());
        } else {
            if (!text.ends_with(c.unit))
                return fail("\"%.*s\" has not the unit %.*s", shown.size(), shown.data(), unit, c.unit.data());
            text.remove_suffix(c.unit.size());
            if (text.ends_with(' ')) text.remove_suffix(1);
            if (n.type != JsonType::string || !read_number(text, c.decimal, v)) return no_number(n);
        }
        char limit[48];
        if (v < c.low || v > c.high) {
            const std::string_view text_limit = write_number(v < c.low ? c.low : c.high, 0, limit);
            return fail("%.*s is %s %.*s", shown.size(), shown.data(), v < c.low ? "below" : "above",
                        static_cast<int>(text_limit.size()), text_limit.data());
        }
        return Verdict::pass;
    }

    // Answers and sources come from outside, and everything in the one is looked for in all of the other.
    bool may_look() { return (looked_ += source_.size()) <= max_looked; }
    Verdict too_much() { return fail("more values than are looked for in an input of that size"); }

    Verdict no_number(const JsonNode& n) {
        if (is_container(n)) return fail("it is an array or an object");
        const Shown shown(text_of(n));
        return fail("\"%.*s\" is no number, or one with too many digits", shown.size(), shown.data());
    }

    Verdict quotes(const JsonNode& n) {
        if (n.type != JsonType::string) return Verdict::absent;
        Quotations all(n.text);
        Verdict verdict = Verdict::absent;
        for (std::string_view content; all.next(content);) {
            std::string_view text = fold_space(content, scratch_);
            if (text.empty()) continue;
            const Shown shown(text);
            if (!may_look()) return too_much();
            // American printers put the sentence's own comma and full stop inside.
            const bool there =
                stands(text, folded_source_) || ((text.ends_with(',') || text.ends_with('.')) &&
                                                 stands(text.substr(0, text.size() - 1), folded_source_));
            if (!there) return fail("\"%.*s\" does not stand in the input", shown.size(), shown.data());
            verdict = Verdict::pass;
        }
        return all.unfinished() ? fail("a quotation has no end") : verdict;
    }

    Verdict order(const Check& c) {
        std::string_view prefix = c.of.size() > 1 ? common_items(c.of) : std::string_view();
        const auto items = answer_.find(prefix, 0);
        const std::size_t mark = answer_.count();
        std::size_t compared = 0;
        for (std::size_t i = 0; i < items.size(); i++) {
            item_ = items.size() > 1 ? i + 1 : 0;
            const JsonNode* last = nullptr;
            std::int64_t last_date = 0;
            Decimal last_number = 0;
            bool last_is_date = false;
            for (const std::string_view field : c.of) {
                for (const int v : answer_.find(field.substr(prefix.size()), items[i])) {
                    const JsonNode& n = answer_.node(v);
                    std::int64_t date = 0;
                    Decimal number = 0;
                    const bool is_date = n.type == JsonType::string && read_date(trimmed(n), format(c), date);
                    if (!is_date && !amount(c, n, number)) {
                        if (is_container(n)) return no_number(n);
                        const Shown shown(text_of(n));
                        return fail("\"%.*s\" is neither a date nor a number", shown.size(), shown.data());
                    }
                    if (last != nullptr) {
                        const Shown x(clipped(last->text, 30)), y(clipped(n.text, 30));
                        if (is_date != last_is_date)
                            return fail("%.*s and %.*s: a date and a number", x.size(), x.data(), y.size(), y.data());
                        if (is_date ? date < last_date : number < last_number)
                            return fail("%.*s is %s %.*s", y.size(), y.data(), is_date ? "before" : "less than",
                                        x.size(), x.data());
                        compared++;
                    }
                    last = &n, last_date = date, last_number = number, last_is_date = is_date;
                }
                answer_.release(mark);
            }
        }
        item_ = 0;
        return compared > 0 ? Verdict::pass : absent("there are no two values to compare");
    }
    std::string_view trimmed(const JsonNode& n) { return fold_space(n.text, scratch_); }

    Verdict sum(const Check& c) {
        const auto totals = answer_.find(c.at, 0);
        if (totals.empty()) return absent("there is no %.*s", Shown(c.at).size(), c.at.data());
        if (totals.size() > 1) return fail("there are %zu totals", totals.size());
        const JsonNode& total_node = answer_.node(totals[0]);
        Decimal sum = 0, total, v;
        if (!amount(c, total_node, total)) return no_number(total_node);
        std::size_t items = 0;
        const auto add = [&](std::string_view pointer, bool counts) {
            for (const int i : answer_.find(pointer, 0)) {
                items += counts ? 1 : 0;
                item_ = counts ? items : 0;
                if (!amount(c, answer_.node(i), v)) return no_number(answer_.node(i));
                if (__builtin_add_overflow(sum, v, &sum)) return fail("the sum has too many digits");
            }
            item_ = 0;
            answer_.release(totals.size());
            return Verdict::pass;
        };
        for (const std::string_view pointer : c.of)
            if (add(pointer, true) == Verdict::fail) return Verdict::fail;
        if (items == 0) return absent("there is no %.*s", Shown(c.of[0]).size(), c.of[0].data());
        for (const std::string_view pointer : c.plus)
            if (add(pointer, false) == Verdict::fail) return Verdict::fail;
        if (within(sum, total, c.tolerance)) return Verdict::pass;
        char a[48], b[48];
        const int decimals = decimals_of(c, total_node);
        const std::string_view x = write_number(sum, decimals, a), y = write_number(total, decimals, b);
        return fail("the items add up to %.*s, %.*s is %.*s", static_cast<int>(x.size()), x.data(),
                    Shown(clipped(c.at, 20)).size(), c.at.data(), static_cast<int>(y.size()), y.data());
    }
    // Neither difference can overflow: of the sum that is not known.
    static bool within(Decimal a, Decimal b, Decimal tolerance) {
        Decimal difference;
        return !__builtin_sub_overflow(a, b, &difference) && difference <= tolerance && difference >= -tolerance;
    }

    Verdict product(const Check& c) {
        const std::string_view prefix = items_of(c);
        const auto items = answer_.find(prefix, 0);
        const std::size_t mark = answer_.count();
        std::size_t checked = 0;
        for (std::size_t i = 0; i < items.size(); i++) {
            item_ = items.size() > 1 ? i + 1 : 0;
            const auto get = [&](std::string_view pointer) {
                answer_.release(mark);
                const auto found = answer_.find(pointer.substr(prefix.size()), items[i]);
                return found.empty() ? nullptr : &answer_.node(found[0]);
            };
            const JsonNode* const amount_node = get(c.at);
            bool whole = amount_node != nullptr;
            Decimal result = grammar::decimal_one, v;
            for (const std::string_view factor : c.of) {
                const JsonNode* const n = whole ? get(factor) : nullptr;
                whole = n != nullptr;
                if (!whole) break;
                if (!amount(c, *n, v)) return no_number(*n);
                if (!multiply(result, v, result)) return fail("the product has too many digits");
            }
            if (!whole) continue;
            if (!amount(c, *amount_node, v)) return no_number(*amount_node);
            checked++;
            if (within(result, v, c.tolerance)) continue;
            char a[48], b[48];
            const int decimals = decimals_of(c, *amount_node);
            const std::string_view x = write_number(result, decimals, a), y = write_number(v, decimals, b);
            return fail("the factors give %.*s, the amount is %.*s", static_cast<int>(x.size()), x.data(),
                        static_cast<int>(y.size()), y.data());
        }
        item_ = 0;
        return checked > 0 ? Verdict::pass : absent("no item has the factors and the amount");
    }
    static std::string_view items_of(const Check& c) {
        const std::size_t star = c.at.rfind("/*");
        return star == std::string_view::npos ? std::string_view() : c.at.substr(0, star + 2);
    }

    // By value, as JSON has it: members in any order, the last one of a name.
    bool equal(const JsonNode& a, const Answer& other, const JsonNode& b) const {
        if (a.type != b.type) return false;
        const JsonReader &x = answer_.reader(), &y = other.reader();
        switch (a.type) {
            case JsonType::null: return true;
            case JsonType::boolean: return a.truth == b.truth;
            case JsonType::string: return answer_.json() ? a.text == b.text : same_text(a.text, b.text);
            case JsonType::number: {
                Decimal u, v;
                const bool known = exact(a, u), known_too = exact(b, v);
                return known && known_too ? u == v : known == known_too && a.text == b.text;
            }
            case JsonType::array: {
                int i = x.first(a), j = y.first(b);
                for (; i < a.next && j < b.next; i = x.node(i).next, j = y.node(j).next)
                    if (!equal(x.node(i), other, y.node(j))) return false;
                return i >= a.next && j >= b.next;
            }
            case JsonType::object:
                for (int j = y.first(b); j < b.next; j = y.node(j).next)
                    if (x.find(a, y.node(j).key) == nullptr) return false;
                for (int i = x.first(a); i < a.next; i = x.node(i).next) {
                    const JsonNode& member = x.node(i);
                    // Of those before the last of its name nothing counts, and looking into them could take forever.
                    if (x.find(a, member.key) != &member) continue;
                    const JsonNode* const match = y.find(b, member.key);
                    if (match == nullptr || !equal(member, other, *match)) return false;
                }
                return true;
        }
        return false;
    }
    bool same_text(std::string_view a, std::string_view b) const {
        const std::string_view x = fold_space(a, scratch_);
        return x == fold_space(b, scratch_.subspan(x.size()));
    }

    Answer& answer_;
    std::string_view source_, folded_source_;
    std::span<char> scratch_;
    Finding finding_{};
    std::size_t looked_ = 0;  // bytes that were looked through
    std::size_t item_ = 0;    // which one is judged; 0: there is one only
};

Heap heap_of(std::span<std::byte> memory) {
    const auto odd = reinterpret_cast<std::uintptr_t>(memory.data()) % alignof(std::max_align_t);
    const std::size_t skip = odd == 0 ? 0 : alignof(std::max_align_t) - odd;
    return Heap(skip <= memory.size() ? memory.subspan(skip) : std::span<std::byte>());
}

}  // namespace

std::size_t examine_memory(std::size_t answer, std::size_t source) {
    return Answer::bytes(answer) + answer + source + alignof(std::max_align_t);
}

Result<int> examine(std::span<const Check> checks, std::string_view answer, bool json, std::string_view source,
                    std::span<std::byte> memory, std::span<Finding> findings) {
    if (findings.size() < checks.size())
        return Error::make(Code::invalid_index, "%zu checks, and room for %zu findings", checks.size(),
                           findings.size());
    Heap heap = heap_of(memory);
    Answer read(TRY(Answer::take(answer.size(), heap)), answer, json);
    // A boolean's text is longer than nothing, but not than the answer in which it stands.
    char* const folded = heap.take<char>(source.size());
    char* const scratch = heap.take<char>(answer.size());
    if (folded == nullptr || scratch == nullptr)
        return Error::make(Code::memory_full, "no memory to check an answer of %zu bytes against a text of %zu",
                           answer.size(), source.size());
    Examiner examiner(read, source, {folded, source.size()}, {scratch, answer.size()});
    int failed = 0;
    for (std::size_t i = 0; i < checks.size(); i++) {
        findings[i] = examiner.run(checks[i]);
        failed += findings[i].verdict == Verdict::fail ? 1 : 0;
    }
    return failed;
}

Result<Finding> compare(const Check& check, std::string_view answer, std::string_view other, bool json,
                        std::span<std::byte> memory) {
    Heap heap = heap_of(memory);
    Answer one(TRY(Answer::take(answer.size(), heap)), answer, json);
    Answer two(TRY(Answer::take(other.size(), heap)), other, json);
    const std::size_t most = answer.size() + other.size();
    char* const scratch = heap.take<char>(most);
    if (scratch == nullptr)
        return Error::make(Code::memory_full, "no memory to compare answers of %zu and %zu bytes", answer.size(),
                           other.size());
    Examiner examiner(one, {}, {}, {scratch, most});
    return examiner.same(check, two);
}

}  // namespace slmd::agent
