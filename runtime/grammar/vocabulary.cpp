#include "grammar/vocabulary.h"

#include <algorithm>
#include <cstring>

#include "base/utf8.h"

namespace slmd::grammar {
namespace {

// A piece that begins within a JSON string, between two characters.
struct Scan {
    bool valid;         // up to its end or the quote
    std::size_t quote;  // where the string ends, npos: not in it
};
Scan scan(std::string_view piece) {
    constexpr Scan bad{false, std::string_view::npos};
    for (std::size_t i = 0; i < piece.size();) {
        const char c = piece[i];
        if (c == '"') return {true, i};
        if (c != '\\') {
            if (static_cast<unsigned char>(c) < 0x20) return bad;
            const int n = utf8_length(piece.substr(i));
            if (n == 0) return bad;
            if (n < 0) break;  // goes on in the next token
            i += static_cast<std::size_t>(n);
            continue;
        }
        if (++i == piece.size()) break;
        if (std::string_view("\"\\bfnrt").find(piece[i++]) == std::string_view::npos)
            return bad;  // \u, too: Matcher::refuse_controls()
    }
    return {true, std::string_view::npos};
}

std::uint8_t shared_bytes(std::string_view a, std::string_view b) {
    const std::size_t n = std::min({a.size(), b.size(), Vocabulary::max_piece});
    return static_cast<std::uint8_t>(
        std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(n), b.begin()).first - a.begin());
}

}  // namespace

void Vocabulary::lay_out(Arena& arena, int count) {
    count_ = count;
    const auto n = static_cast<std::size_t>(count);
    sorted_ = arena.persistent<std::int32_t>(n);
    shared_ = arena.persistent<std::uint8_t>(n);
    inside_ = arena.persistent<std::uint64_t>(words());
    // Few tokens have a quote; were it many, all of them are walked.
    closers_ = arena.persistent<std::int32_t>(n / 16);
    ending_ = arena.persistent<std::int32_t>(n / 16 + 1);
    ending_shared_ = arena.persistent<std::uint8_t>(n / 16);
}

void Vocabulary::build(Piece bytes, const void* context) {
    piece_ = bytes;
    context_ = context;
    pieces_ = closing_ = endings_ = 0;
    std::fill_n(inside_, words(), 0);
    bool all = true;
    for (std::int32_t t = 0; t < count_; t++) {
        const std::string_view text = piece(t);
        if (text.empty() || text.size() > max_piece) continue;
        sorted_[pieces_++] = t;
        const Scan s = scan(text);
        if (!s.valid) continue;
        if (s.quote == std::string_view::npos)
            inside_[t / 64] |= std::uint64_t{1} << t % 64;
        else if (closing_ == count_ / 16)
            all = false;
        else
            closers_[closing_++] = t;
    }
    if (!all) closing_ = -1;
    std::sort(sorted_, sorted_ + pieces_, [&](std::int32_t a, std::int32_t b) {
        const int order = piece(a).compare(piece(b));
        return order != 0 ? order < 0 : a < b;
    });
    std::fill(std::begin(first_), std::end(first_), pieces_);
    for (int i = pieces_ - 1; i >= 0; i--) {
        shared_[i] = i == 0 ? std::uint8_t{0} : shared_bytes(piece(sorted_[i - 1]), piece(sorted_[i]));
        first_[static_cast<unsigned char>(piece(sorted_[i])[0])] = i;
    }
    for (int b = 255; b >= 0; b--) first_[b] = std::min(first_[b], first_[b + 1]);
    std::sort(closers_, closers_ + std::max(closing_, 0), [&](std::int32_t a, std::int32_t b) {
        const int order = ending(a).compare(ending(b));
        return order != 0 ? order < 0 : a < b;
    });
    for (int i = 0; i < closing_; i++) {
        if (i > 0 && ending(closers_[i - 1]) == ending(closers_[i])) continue;
        ending_shared_[endings_] =
            i == 0 ? std::uint8_t{0} : shared_bytes(ending(closers_[i - 1]), ending(closers_[i]));
        ending_[endings_++] = i;
    }
    ending_[endings_] = std::max(closing_, 0);
}

// The quote that ends the string, and what stands behind it.
std::string_view Vocabulary::ending(std::int32_t token) const {
    const std::string_view text = piece(token);
    return text.substr(scan(text).quote);
}

// What one begins with as the one before is taken once; of what the matcher refuses, all that begins like it is passed
// over.
template <class Text, class Take>
void Vocabulary::walk(Matcher& matcher, int first, int last, const std::uint8_t* shared, Text text_of, Take take) {
    std::size_t depth = 0, refused = max_piece + 1;  // bytes taken; length of the shortest beginning that is not
    for (int i = first; i < last; i++) {
        const std::size_t same = i == first ? 0 : shared[i];
        if (same >= refused) continue;
        const std::string_view text = text_of(i);
        for (; depth > same; depth--) matcher.pop();
        refused = max_piece + 1;
        while (depth < text.size() && matcher.push(text[depth])) depth++;
        if (depth < text.size())
            refused = depth + 1;
        else
            take(i);
    }
    for (; depth > 0; depth--) matcher.pop();
}

void Vocabulary::allowed(Matcher& matcher, std::span<std::uint64_t> bits) const {
    const auto set = [&](std::int32_t t) { bits[static_cast<std::size_t>(t) / 64] |= std::uint64_t{1} << t % 64; };
    if (closing_ >= 0 && matcher.in_free_string(max_piece)) {
        std::copy_n(inside_, words(), bits.begin());
        walk(
            matcher, 0, endings_, ending_shared_, [&](int i) { return ending(closers_[ending_[i]]); },
            [&](int i) {
                for (std::int32_t k = ending_[i]; k < ending_[i + 1]; k++) set(closers_[k]);
            });
        return;
    }
    allowed(matcher, matcher.next(), bits);
}

void Vocabulary::allowed(Matcher& matcher, const Matcher::Bytes& first, std::span<std::uint64_t> bits) const {
    std::fill_n(bits.begin(), words(), 0);
    for (int b = 0; b < 256; b++)
        if (first.has(static_cast<unsigned char>(b)))
            walk(
                matcher, first_[b], first_[b + 1], shared_, [&](int i) { return piece(sorted_[i]); },
                [&](int i) {
                    const std::int32_t t = sorted_[i];
                    bits[static_cast<std::size_t>(t) / 64] |= std::uint64_t{1} << t % 64;
                });
}

bool Vocabulary::may_be_longer(Matcher& matcher, std::int32_t token) const {
    const std::string_view begin = piece(token);
    if (begin.empty()) return false;
    const Matcher::Bytes next = matcher.next();
    const std::int32_t* const all = sorted_;
    const std::int32_t* const end = all + pieces_;
    for (const auto *t = std::upper_bound(all, end, begin,
                                          [&](std::string_view b, std::int32_t other) { return b < piece(other); });
         t != end; t++) {
        const std::string_view longer = piece(*t);
        if (!longer.starts_with(begin)) return false;
        const std::string_view rest = longer.substr(begin.size());
        if (next.has(static_cast<unsigned char>(rest[0])) && matcher.would_take(rest)) return true;
    }
    return false;
}

}  // namespace slmd::grammar
