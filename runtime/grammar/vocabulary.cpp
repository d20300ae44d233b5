#include "grammar/vocabulary.h"

#include <algorithm>
#include <cstring>
#include <utility>

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

// Tokens whose texts have their first `depth` bytes in common, in the order of these texts, those alike in that of
// their numbers. In place, a byte at a time (American flag sort, McIlroy et al. 1993), which reads each text a few
// times where comparing reads two of them at each of 17 levels; of few, the next eight bytes of each are kept side by
// side.
void sort_by_text(std::int32_t* first, std::int32_t* last, std::size_t depth, Vocabulary::Piece text_of,
                  const void* context) {
    constexpr std::ptrdiff_t few = 32;
    constexpr std::size_t deepest = 16;  // levels on the stack, 2 KiB each
    const auto before = [&](std::int32_t a, std::int32_t b) {
        const int order = text_of(context, a).compare(text_of(context, b));
        return order != 0 ? order < 0 : a < b;
    };
    if (last - first <= few) {
        std::uint64_t keys[few];
        for (std::ptrdiff_t n = 0; n < last - first; n++) {
            const std::int32_t token = first[n];
            const std::string_view rest = text_of(context, token).substr(depth);
            std::uint64_t key = 0;
            for (std::size_t i = 0; i < sizeof key; i++)
                key = key << 8 | (i < rest.size() ? static_cast<std::uint8_t>(rest[i]) : 0);
            std::ptrdiff_t at = n;
            for (; at > 0 && (key < keys[at - 1] || (key == keys[at - 1] && before(token, first[at - 1]))); at--) {
                keys[at] = keys[at - 1];
                first[at] = first[at - 1];
            }
            keys[at] = key;
            first[at] = token;
        }
        return;
    }
    if (depth == deepest) return std::sort(first, last, before);
    const auto place = [&](std::int32_t token) {  // 0: it ends here
        const std::string_view text = text_of(context, token);
        return text.size() == depth ? 0u : 1u + static_cast<std::uint8_t>(text[depth]);
    };
    std::int32_t next[257]{}, end[257];  // of each place
    for (const std::int32_t* t = first; t < last; t++) next[place(*t)]++;
    std::int32_t sum = 0;
    for (int i = 0; i < 257; i++) {
        end[i] = sum + next[i];
        next[i] = std::exchange(sum, end[i]);
    }
    for (unsigned i = 0; i < 257; i++)
        while (next[i] < end[i]) {
            std::int32_t token = first[next[i]];
            for (unsigned at = place(token); at != i; at = place(token)) std::swap(token, first[next[at]++]);
            first[next[i]++] = token;
        }
    std::sort(first, first + end[0], before);
    for (int i = 1; i < 257; i++)
        if (end[i] - end[i - 1] > 1) sort_by_text(first + end[i - 1], first + end[i], depth + 1, text_of, context);
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
    sort_by_text(sorted_, sorted_ + pieces_, 0, piece_, context_);
    std::fill(std::begin(first_), std::end(first_), pieces_);
    for (int i = pieces_ - 1; i >= 0; i--) {
        shared_[i] = i == 0 ? std::uint8_t{0} : shared_bytes(piece(sorted_[i - 1]), piece(sorted_[i]));
        first_[static_cast<unsigned char>(piece(sorted_[i])[0])] = i;
    }
    for (int b = 255; b >= 0; b--) first_[b] = std::min(first_[b], first_[b + 1]);
    const auto ending_of = [](const void* vocabulary, std::int32_t token) {
        return static_cast<const Vocabulary*>(vocabulary)->ending(token);
    };
    sort_by_text(closers_, closers_ + std::max(closing_, 0), 0, ending_of, this);
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
