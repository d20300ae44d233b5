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
        if (std::string_view("\"\\bfnrt").find(piece[i]) != std::string_view::npos) {
            i++;
            continue;
        }
        const std::string_view code = piece.substr(i, 5);
        const auto fits = [&](std::size_t at, std::string_view chars) {
            return at >= code.size() || chars.find(code[at]) != std::string_view::npos;
        };
        if (!fits(0, "u") || !fits(1, "0") || !fits(2, "0") || !fits(3, "01")) return bad;
        // \b, \t, \n, \f and \r have forms of their own.
        if (!fits(4, code.size() > 3 && code[3] == '0' ? "01234567bef" : "0123456789abcdef")) return bad;
        i += code.size();
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
    // Few tokens have a quote; were it all of them, the rest is walked.
    closers_ = arena.persistent<std::int32_t>(n / 8);
    closers_shared_ = arena.persistent<std::uint8_t>(n / 8);
    closers_at_ = arena.persistent<std::uint8_t>(n / 8);
}

void Vocabulary::build(Piece bytes, const void* context) {
    piece_ = bytes;
    context_ = context;
    pieces_ = closing_ = 0;
    std::fill_n(inside_, words(), 0);
    bool all = true;
    for (std::int32_t t = 0; t < count_; t++) {
        const std::string_view text = piece(t);
        if (text.empty() || text.size() > max_piece) continue;
        sorted_[pieces_++] = t;
        const Scan s = scan(text);
        if (!s.valid) continue;
        if (s.quote == std::string_view::npos) {
            inside_[t / 64] |= std::uint64_t{1} << t % 64;
        } else if (closing_ == count_ / 8) {
            all = false;
        } else {
            closers_[closing_] = t;
            closers_at_[closing_++] = static_cast<std::uint8_t>(s.quote);
        }
    }
    if (!all) closing_ = -1;
    std::sort(sorted_, sorted_ + pieces_, [&](std::int32_t a, std::int32_t b) {
        const int order = piece(a).compare(piece(b));
        return order != 0 ? order < 0 : a < b;
    });
    for (int i = 0; i < pieces_; i++)
        shared_[i] = i == 0 ? std::uint8_t{0} : shared_bytes(piece(sorted_[i - 1]), piece(sorted_[i]));
    const auto ending = [&](std::int32_t t) {
        const std::string_view text = piece(t);
        return text.substr(scan(text).quote);
    };
    std::sort(closers_, closers_ + std::max(closing_, 0), [&](std::int32_t a, std::int32_t b) {
        const int order = ending(a).compare(ending(b));
        return order != 0 ? order < 0 : a < b;
    });
    for (int i = 0; i < closing_; i++) {
        closers_at_[i] = static_cast<std::uint8_t>(scan(piece(closers_[i])).quote);
        closers_shared_[i] = i == 0 ? std::uint8_t{0} : shared_bytes(ending(closers_[i - 1]), ending(closers_[i]));
    }
}

// What one token begins with as the one before is taken once; of what the matcher refuses, all that begins like it is
// passed over.
void Vocabulary::walk(Matcher& matcher, std::span<const std::int32_t> tokens, const std::uint8_t* shared,
                      const std::uint8_t* offset, std::span<std::uint64_t> bits) const {
    std::size_t depth = 0,
                refused = max_piece + 1;  // bytes that are taken; length of the shortest beginning that is not
    const Matcher::Bytes first = matcher.next();
    for (std::size_t i = 0; i < tokens.size(); i++) {
        if (shared[i] >= refused) continue;
        std::string_view text = piece(tokens[i]);
        if (offset != nullptr) text.remove_prefix(offset[i]);
        for (; depth > shared[i]; depth--) matcher.pop();
        refused = max_piece + 1;
        if (depth == 0 && !first.has(static_cast<unsigned char>(text[0]))) {
            refused = 1;
            continue;
        }
        while (depth < text.size() && matcher.push(text[depth])) depth++;
        if (depth < text.size())
            refused = depth + 1;
        else
            bits[static_cast<std::size_t>(tokens[i]) / 64] |= std::uint64_t{1} << tokens[i] % 64;
    }
    for (; depth > 0; depth--) matcher.pop();
}

void Vocabulary::allowed(Matcher& matcher, std::span<std::uint64_t> bits) const {
    if (closing_ >= 0 && matcher.in_free_string(max_piece)) {
        std::copy_n(inside_, words(), bits.begin());
        walk(matcher, {closers_, static_cast<std::size_t>(closing_)}, closers_shared_, closers_at_, bits);
        return;
    }
    std::fill_n(bits.begin(), words(), 0);
    walk(matcher, {sorted_, static_cast<std::size_t>(pieces_)}, shared_, nullptr, bits);
}

}  // namespace slmd::grammar
