#include "text/split.h"

#include <algorithm>

#include "text/unicode.h"

namespace slmd::text {
namespace {

constexpr auto letter = CharClass::letter, number = CharClass::number, space = CharClass::space,
               other = CharClass::other;

// The end of the run of characters of class cls that starts at `at`.
std::size_t run_end(std::string_view s, std::size_t at, CharClass cls, std::size_t at_most = ~std::size_t{0}) {
    while (at < s.size() && at_most-- > 0) {
        const Char c = char_at(s, at);
        if (c.cls != cls) break;
        at += c.bytes;
    }
    return at;
}

bool newline(Char c) { return c.code == '\r' || c.code == '\n'; }

// 's|'t|'re|'ve|'m|'ll|'d at the start of s: its length, or 0.
std::size_t contraction(std::string_view s, bool any_case) {
    if (s.size() < 2 || s[0] != '\'') return 0;
    const auto at = [&](std::size_t i) -> char {
        if (i >= s.size()) return 0;
        return any_case && s[i] >= 'A' && s[i] <= 'Z' ? static_cast<char>(s[i] + 32) : s[i];
    };
    switch (at(1)) {
        case 's':
        case 't':
        case 'm':
        case 'd': return 2;
        case 'r':
        case 'v': return at(2) == 'e' ? 3 : 0;
        case 'l': return at(2) == 'l' ? 3 : 0;
    }
    return any_case && s.starts_with("'\u017F") ? 3 : 0;  // the long s folds to s
}

// \s+(?!\S)|\s+ : a run of white space leaves its last character to what follows.
std::size_t spaces(std::string_view s) {
    std::size_t end = 0, last = 0;
    while (end < s.size()) {
        const Char c = char_at(s, end);
        if (c.cls != space) break;
        last = end;
        end += c.bytes;
    }
    return end == s.size() || last == 0 ? end : last;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t gpt2(std::string_view s) {
    if (const std::size_t n = contraction(s, false)) return n;
    const std::size_t start = s[0] == ' ' && s.size() > 1 ? 1 : 0;
    const Char c = char_at(s, start);
    if (c.cls != space) return run_end(s, start + c.bytes, c.cls);
    return spaces(s);
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}|
// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
std::size_t llama3(std::string_view s, std::size_t digits) {
    if (const std::size_t n = contraction(s, true)) return n;
    const Char first = char_at(s, 0);
    if (first.cls == letter) return run_end(s, first.bytes, letter);
    if (first.cls == number) return run_end(s, 0, number, digits);
    const Char second = first.bytes < s.size() ? char_at(s, first.bytes) : Char{0, 0, space};
    if (second.cls == letter && !newline(first)) return run_end(s, first.bytes + second.bytes, letter);
    if (first.cls == other || (first.code == ' ' && second.cls == other)) {
        std::size_t end = run_end(s, first.bytes, other);
        while (end < s.size() && (s[end] == '\r' || s[end] == '\n')) ++end;
        return end;
    }
    std::size_t past_newline = 0;
    for (std::size_t at = 0; at < s.size();) {
        const Char c = char_at(s, at);
        if (c.cls != space) break;
        at += c.bytes;
        if (newline(c)) past_newline = at;
    }
    return past_newline ? past_newline : spaces(s);
}

}  // namespace

std::size_t Splitter::word_end(std::string_view s) const {
    switch (pre_) {
        case Pre::gpt2:
        case Pre::smollm: return gpt2(s);
        case Pre::llama_bpe: return llama3(s, 3);
        case Pre::qwen2: return llama3(s, 1);
        case Pre::whole:
        case Pre::wordpiece: return s.size();
        case Pre::spaces: break;
    }
    // SentencePiece whose pieces never hold a space after something else: a word starts at each run of spaces.
    std::size_t at = std::min(s.find_first_not_of(' '), s.size());
    return std::min(s.find(' ', at), s.size());
}

std::string_view Splitter::next() {
    if (at_ == text_.size()) return {};
    std::size_t limit = text_.size();
    if (pre_ == Pre::smollm) {  // each number (\p{N}) is a word, and the end of the text for what stands before it
        if (at_ >= segment_end_) {
            segment_end_ = at_;
            while (segment_end_ < text_.size()) {
                const Char c = char_at(text_, segment_end_);
                if (c.cls == number) {
                    if (segment_end_ == at_) segment_end_ += c.bytes;
                    break;
                }
                segment_end_ += c.bytes;
            }
        }
        limit = segment_end_;
    }
    const std::string_view rest = text_.substr(at_, limit - at_);
    const std::size_t n = word_end(rest);
    at_ += n;
    return rest.substr(0, n);
}

}  // namespace slmd::text
