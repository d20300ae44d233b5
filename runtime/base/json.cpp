#include "base/json.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/utf8.h"

namespace slmd {

Error JsonReader::wrong(const char* what, Code code) const {
    if (line_ == 1) return Error::make(code, "JSON, column %zu: %s", at_ + 1, what);
    return Error::make(code, "JSON, line %d, column %zu: %s", line_, at_ - line_begin_ + 1, what);
}

void JsonReader::space() {
    for (; at_ < text_.size(); at_++) {
        const char c = text_[at_];
        if (c == '\n')
            line_++, line_begin_ = at_ + 1;
        else if (c != ' ' && c != '\t' && c != '\r')
            break;
    }
}

bool JsonReader::take(char c) {
    space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    at_++;
    return true;
}

Result<void> JsonReader::parse(std::span<char> text) {
    text_ = text, at_ = line_begin_ = 0, count_ = 0, line_ = 1;
    TRY(value(0, {}));
    space();
    if (at_ != text_.size()) return wrong("something follows the value; send one object a line");
    return {};
}

const JsonNode* JsonReader::find(const JsonNode& object, std::string_view key) const {
    const JsonNode* found = nullptr;
    if (object.type == JsonType::object)
        for (int i = first(object); i < object.next; i = this->node(i).next)
            if (this->node(i).key == key) found = &this->node(i);
    return found;
}

Result<void> JsonReader::value(int depth, std::string_view key) {
    char limit[64];
    if (depth >= max_depth_) {
        std::snprintf(limit, sizeof limit, "nested too deeply (%d levels)", max_depth_);
        return wrong(limit);
    }
    if (count_ == static_cast<int>(nodes_.size())) {
        std::snprintf(limit, sizeof limit, "too many values (%zu)", nodes_.size());
        return wrong(limit);
    }
    const int self = count_++;
    JsonNode& node = nodes_[static_cast<std::size_t>(self)];
    node = {};
    node.key = key;
    space();
    if (at_ >= text_.size()) return wrong("a value is missing");
    const char c = text_[at_];
    const auto word = [&](std::string_view w) {
        if (std::string_view(text_.data() + at_, text_.size() - at_).substr(0, w.size()) != w) return false;
        at_ += w.size();
        return true;
    };
    if (c == '{' || c == '[') {
        const char close = c == '{' ? '}' : ']';
        node.type = c == '{' ? JsonType::object : JsonType::array;
        if (std::find(left_.begin(), left_.end(), key) != left_.end()) {
            node.text = TRY(skip());
            node.next = count_;
            return {};
        }
        at_++;
        if (!take(close)) {
            do {
                std::string_view name;
                if (c == '{') {
                    space();
                    if (at_ >= text_.size() || text_[at_] != '"') return wrong("a name in quotes is missing");
                    name = TRY(string());
                    if (!take(':')) return wrong("':' is missing");
                }
                TRY(value(depth + 1, name));
            } while (take(','));
            if (!take(close)) return wrong(c == '{' ? "',' or '}' is missing" : "',' or ']' is missing");
        }
    } else if (c == '"') {
        node.type = JsonType::string;
        node.text = TRY(string());
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        node.type = JsonType::number;
        node.number = TRY(number(node.text));
    } else if (word("true")) {
        node.type = JsonType::boolean, node.truth = true;
    } else if (word("false")) {
        node.type = JsonType::boolean;
    } else if (!word("null")) {
        return wrong("not a JSON value");
    }
    node.next = count_;
    return {};
}

// An object or array as it is written.
Result<std::string_view> JsonReader::skip() {
    const std::size_t begin = at_;
    int depth = 0;
    bool quoted = false;
    for (; at_ < text_.size(); at_++) {
        const char c = text_[at_];
        if (quoted) {
            if (c == '\\')
                at_++;
            else if (c == '"')
                quoted = false;
            continue;
        }
        if (c == '"') quoted = true;
        if (c == '{' || c == '[') depth++;
        if ((c == '}' || c == ']') && --depth == 0) return std::string_view(text_.data() + begin, ++at_ - begin);
    }
    at_ = text_.size();
    return wrong("',' or '}' is missing");
}

Result<double> JsonReader::number(std::string_view& source) {
    const std::size_t begin = at_;
    const auto digits = [&] {
        const std::size_t from = at_;
        while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') at_++;
        return at_ - from;
    };
    if (text_[at_] == '-') at_++;
    const bool zero = at_ < text_.size() && text_[at_] == '0';
    const std::size_t whole = digits();
    if (whole == 0 || (zero && whole > 1)) return wrong("not a number");
    if (at_ < text_.size() && text_[at_] == '.') {
        at_++;
        if (digits() == 0) return wrong("digits are missing after '.'");
    }
    if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
        at_++;
        if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) at_++;
        if (digits() == 0) return wrong("digits are missing in the exponent");
    }
    char copy[64];
    const std::size_t n = at_ - begin;
    if (n >= sizeof copy) return wrong("number too long");
    std::memcpy(copy, text_.data() + begin, n);
    copy[n] = 0;
    source = {text_.data() + begin, n};
    return std::strtod(copy, nullptr);
}

Result<std::string_view> JsonReader::string() {
    const std::size_t begin = ++at_;
    std::size_t out = begin;
    const auto hex4 = [&](std::uint32_t& v) {
        if (text_.size() - at_ < 4) return false;
        v = 0;
        for (int i = 0; i < 4; i++) {
            const char c = text_[at_++];
            const int d = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
            if (d < 0) return false;
            v = v << 4 | static_cast<std::uint32_t>(d);
        }
        return true;
    };
    while (at_ < text_.size()) {
        const char c = text_[at_];
        if (c == '"') {
            at_++;
            return std::string_view(text_.data() + begin, out - begin);
        }
        if (static_cast<unsigned char>(c) < 0x20)
            return wrong("a control character in a string; write it as an escape");
        if (c != '\\') {
            const int n = utf8_length({text_.data() + at_, text_.size() - at_});
            if (n <= 0) return wrong("not UTF-8", Code::invalid_characters);
            for (int i = 0; i < n; i++) text_[out++] = text_[at_++];
            continue;
        }
        if (++at_ >= text_.size()) break;
        const char e = text_[at_++];
        constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
        if (const auto i = from.find(e); i != std::string_view::npos) {
            text_[out++] = to[i];
            continue;
        }
        std::uint32_t v, low;
        if (e != 'u' || !hex4(v)) return wrong("not an escape of JSON");
        if (v >= 0xD800 && v <= 0xDBFF) {
            if (text_.size() - at_ < 6 || text_[at_] != '\\' || text_[at_ + 1] != 'u')
                return wrong("half of a surrogate pair");
            at_ += 2;
            if (!hex4(low) || low < 0xDC00 || low > 0xDFFF) return wrong("half of a surrogate pair");
            v = 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00);
        } else if (v >= 0xDC00 && v <= 0xDFFF) {
            return wrong("half of a surrogate pair");
        }
        // Never longer than its escape, so writing in place is safe.
        const auto byte = [&](std::uint32_t b) { text_[out++] = static_cast<char>(b); };
        if (v < 0x80)
            byte(v);
        else if (v < 0x800)
            byte(0xC0 | v >> 6), byte(0x80 | (v & 63));
        else if (v < 0x10000)
            byte(0xE0 | v >> 12), byte(0x80 | (v >> 6 & 63)), byte(0x80 | (v & 63));
        else
            byte(0xF0 | v >> 18), byte(0x80 | (v >> 12 & 63)), byte(0x80 | (v >> 6 & 63)), byte(0x80 | (v & 63));
    }
    return wrong("a string has no end");
}

std::string_view json_written(const char& c, std::span<char, 6> out) {
    constexpr char digits[] = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && c != '"' && c != '\\') return {&c, 1};
    const char control[] = {'\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 15]};
    std::copy(control, control + 6, out.begin());
    if (byte < 0x20) return {out.data(), 6};
    out[1] = c;
    return {out.data(), 2};
}

}  // namespace slmd
