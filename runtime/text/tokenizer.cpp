#include "text/tokenizer.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "text/section.h"
#include "text/split.h"
#include "text/unicode.h"
#include "text/wordpiece.h"

namespace slmd::text {
namespace {

constexpr std::size_t short_word = 64;        // bytes; longer words merge with a tournament tree in scratch
constexpr std::size_t scratch_per_byte = 20;  // id, next, previous, rank, tree

// A symbol that merges no further. An unknown character of SentencePiece falls back to its bytes, then to <unk>; a byte
// that a byte-level vocabulary lacks has no token at all and is left out, as everywhere else.
void put_symbol(const View& v, std::uint32_t id, std::string_view bytes, Out& out) {
    if (id != none) return out.put(id);
    if (!v.sentencepiece()) return;
    const bool known = std::all_of(bytes.begin(), bytes.end(), [&](char c) { return v.byte_id(c) >= 0; });
    if (!known) {
        if (v.h.unk >= 0) out.put(static_cast<std::uint32_t>(v.h.unk));
        return;
    }
    for (char c : bytes) out.put(static_cast<std::uint32_t>(v.byte_id(c)));
}

// The symbols that merging starts from: bytes, or the characters of SentencePiece.
std::uint32_t first_symbol(const View& v, std::string_view word, std::size_t at, std::size_t& bytes) {
    bytes = 1;
    if (!v.sentencepiece()) return static_cast<std::uint32_t>(v.byte_id(word[at]));
    bytes = char_at(word, at).bytes;
    return v.word(word.substr(at, bytes));
}

// Merges a short word in arrays on the stack: each round looks for the lowest rank and closes the gap.
void merge_short(const View& v, std::string_view word, Out& out) {
    std::uint32_t ids[short_word], ranks[short_word], merged[short_word];
    std::uint8_t starts[short_word + 1];
    std::size_t n = 0;
    for (std::size_t at = 0, bytes; at < word.size(); at += bytes, ++n) {
        ids[n] = first_symbol(v, word, at, bytes);
        starts[n] = static_cast<std::uint8_t>(at);
    }
    starts[n] = static_cast<std::uint8_t>(word.size());
    const auto rank = [&](std::size_t i) {
        const auto m = i + 1 < n ? v.merge(ids[i], ids[i + 1]) : View::Merged{};
        ranks[i] = m.rank, merged[i] = m.id;
    };
    for (std::size_t i = 0; i < n; ++i) rank(i);
    while (true) {
        const std::size_t i = static_cast<std::size_t>(std::min_element(ranks, ranks + n) - ranks);
        if (ranks[i] == none) break;
        ids[i] = merged[i];
        --n;
        for (std::size_t j = i + 1; j < n; ++j)
            ids[j] = ids[j + 1], ranks[j] = ranks[j + 1], merged[j] = merged[j + 1], starts[j] = starts[j + 1];
        starts[n] = static_cast<std::uint8_t>(word.size());
        rank(i);
        if (i > 0) rank(i - 1);
    }
    for (std::size_t i = 0; i < n; ++i) put_symbol(v, ids[i], word.substr(starts[i], starts[i + 1] - starts[i]), out);
}

// Merges a word of any length: symbols, named by their first byte, in a linked list; a tournament tree knows the pair
// with the lowest rank. O(n log n) time, scratch_per_byte * n bytes.
void merge_long(const View& v, std::string_view word, std::uint32_t* scratch, Out& out) {
    const auto n = static_cast<std::uint32_t>(word.size());
    std::uint32_t *id = scratch, *next = id + n, *previous = next + n, *rank = previous + n, *tree = rank + n;
    // tree[i], 1 <= i < n: the better of children 2i and 2i + 1; a child c >= n is the symbol c - n.
    const auto winner = [&](std::uint32_t child) { return child >= n ? child - n : tree[child]; };
    const auto play = [&](std::uint32_t i) {
        const std::uint32_t a = winner(2 * i), b = winner(2 * i + 1);
        tree[i] = rank[a] < rank[b] || (rank[a] == rank[b] && a < b) ? a : b;
    };
    const auto rank_pair = [&](std::uint32_t i) { rank[i] = next[i] < n ? v.merge(id[i], id[next[i]]).rank : none; };
    const auto update = [&](std::uint32_t i, std::uint32_t r) {
        if (rank[i] == r) return;
        rank[i] = r;
        for (std::uint32_t at = (i + n) / 2; at >= 1; at /= 2) play(at);
    };

    std::uint32_t last = 0;
    for (std::size_t at = 0, bytes; at < n; at += bytes) {
        const auto i = static_cast<std::uint32_t>(at);
        id[i] = first_symbol(v, word, at, bytes);
        next[i] = i + static_cast<std::uint32_t>(bytes);
        previous[i] = last;
        last = i;
        std::fill(rank + i, rank + i + bytes, none);
    }
    for (std::uint32_t i = 0; i < n; i = next[i]) rank_pair(i);
    for (std::uint32_t i = n - 1; i >= 1; --i) play(i);

    for (std::uint32_t i = tree[1]; rank[i] != none; i = tree[1]) {
        const std::uint32_t gone = next[i];
        id[i] = v.merge(id[i], id[gone]).id;
        next[i] = next[gone];
        if (next[i] < n) previous[next[i]] = i;
        update(gone, none);
        update(i, next[i] < n ? v.merge(id[i], id[next[i]]).rank : none);
        if (i > 0) update(previous[i], v.merge(id[previous[i]], id[i]).rank);
    }
    for (std::uint32_t i = 0; i < n; i = next[i]) put_symbol(v, id[i], word.substr(i, next[i] - i), out);
}

void encode_word(const View& v, std::string_view word, std::uint32_t* scratch, Out& out) {
    if (const std::uint32_t id = v.word(word); id != none)
        out.put(id);
    else if (word.size() <= short_word)
        merge_short(v, word, out);
    else
        merge_long(v, word, scratch, out);
}

// The longest special token at text[at] that ends by `limit`, or none. The sorted list is narrowed byte by byte.
std::uint32_t special_at(const View& v, std::string_view text, std::size_t at, std::size_t limit, bool control) {
    const auto* begin = v.table<std::uint32_t>(v.h.specials);
    const auto* end = begin + v.h.specials.count;
    std::uint32_t found = none;
    for (std::size_t depth = 0; begin != end && at + depth < limit; ++depth) {
        const auto want = static_cast<unsigned char>(text[at + depth]);
        const auto byte = [&](std::uint32_t id) {  // -1 past the end: a prefix sorts first
            const auto s = v.bytes(id);
            return depth < s.size() ? static_cast<unsigned char>(s[depth]) : -1;
        };
        begin = std::partition_point(begin, end, [&](std::uint32_t id) { return byte(id) < want; });
        end = std::partition_point(begin, end, [&](std::uint32_t id) { return byte(id) == want; });
        for (const auto* p = begin; p != end && v.bytes(*p).size() == depth + 1; ++p)
            if (control || (v.type(*p) & type_mask) == type_user_defined) found = *p;
    }
    return found;
}

// The text between two special tokens.
void encode_plain(const View& v, std::string_view text, std::uint32_t* scratch, char* copy, Out& out) {
    if (text.empty()) return;
    if (v.h.pre == Pre::wordpiece) return encode_wordpiece(v, text, out);
    Splitter words(v.h.pre, text);
    if (v.h.flags & flag_space_prefix) {
        // The dummy space joins the first word. A text that starts with spaces is one word with them.
        const std::string_view first = words.next();
        copy[0] = ' ';
        std::memcpy(copy + 1, first.data(), first.size());
        encode_word(v, {copy, first.size() + 1}, scratch, out);
    }
    for (std::string_view w = words.next(); !w.empty() && !out.full; w = words.next()) encode_word(v, w, scratch, out);
}

Error bad(const char* what) {
    return Error::make(Code::model_format, "tokenizer section: %s; pack the model again", what);
}

}  // namespace

Result<Tokenizer> Tokenizer::open(std::span<const std::byte> section) {
    if (section.size() < sizeof(TokenizerHeader)) return bad("too short for its header");
    if (reinterpret_cast<std::uintptr_t>(section.data()) % 8) return bad("not at a multiple of 8 bytes");
    const View v(section);
    const TokenizerHeader& h = v.h;
    if (std::memcmp(h.magic, tokenizer_magic, sizeof h.magic) != 0) return bad("not a tokenizer of this version");
    if (h.size > section.size()) return bad("truncated");
    if (h.flags & ~known_tokenizer_flags || static_cast<std::uint32_t>(h.pre) >= pre_count)
        return bad("unknown kind of tokenizer");
    if (h.vocab == 0 || h.vocab > max_vocab) return bad("impossible size of the vocabulary");

    const auto fits = [&](const Table& t, std::uint64_t width, std::uint64_t count) {
        return t.count == count && t.offset % 8 == 0 && t.offset >= sizeof(TokenizerHeader) &&
               t.offset + width * count <= h.size;
    };
    if (!fits(h.piece_ends, 4, h.vocab) || !fits(h.types, 1, h.vocab) || !fits(h.byte_ids, 4, 256) ||
        !fits(h.bytes, 1, h.bytes.count))
        return bad("a table lies outside");
    if (h.specials.count > h.vocab || !fits(h.specials, 4, h.specials.count))
        return bad("the table of special tokens lies outside");
    for (const HashTables* t : {&h.merges, &h.words}) {
        const std::uint64_t width = t == &h.merges ? sizeof(Merge) : 4;
        if (t->displacements.count == 0 || t->slots.count == 0 || !fits(t->displacements, 2, t->displacements.count) ||
            !fits(t->slots, width, t->slots.count))
            return bad("a hash table lies outside");
    }

    const auto token = [&](std::int64_t id) { return id >= 0 && id < h.vocab; };
    if ((h.bos != -1 && !token(h.bos)) || (h.unk != -1 && !token(h.unk)))
        return bad("a special token is not in the vocabulary");
    const auto* ends = v.table<std::uint32_t>(h.piece_ends);
    for (std::uint32_t i = 0, begin = 0; i < h.vocab; begin = ends[i++])
        if (ends[i] < begin || ends[i] > h.bytes.count || ends[i] - begin > max_piece_bytes)
            return bad("the pieces overlap or lie outside");
    const auto* byte_ids = v.table<std::int32_t>(h.byte_ids);
    for (int i = 0; i < 256; ++i)
        if (byte_ids[i] != -1 && !token(byte_ids[i])) return bad("the token of a byte is not in the vocabulary");
    const auto* specials = v.table<std::uint32_t>(h.specials);
    for (std::uint32_t i = 0; i < h.specials.count; ++i) {
        if (!token(specials[i]) || v.bytes(specials[i]).empty()) return bad("a special token is not in the vocabulary");
        if (i > 0 && v.bytes(specials[i]) < v.bytes(specials[i - 1])) return bad("the special tokens are not sorted");
    }
    const auto* words = v.table<std::uint32_t>(h.words.slots);
    for (std::uint32_t i = 0; i < h.words.slots.count; ++i)
        if (words[i] != empty32 && !token(words[i])) return bad("a word is not in the vocabulary");
    const auto* merges = v.table<Merge>(h.merges.slots);
    for (std::uint32_t i = 0; i < h.merges.slots.count; ++i)
        if (load24(merges[i].left) != empty24 && !token(load24(merges[i].id)))
            return bad("a merge gives no token of the vocabulary");

    if (h.pre == Pre::wordpiece) TRY(check_wordpiece(v));

    Tokenizer t;
    t.section_ = section.first(h.size);
    return t;
}

std::size_t Tokenizer::scratch_bytes(std::size_t text_bytes) {
    // One more byte for the dummy space, twice: in the copy of the first word and in its symbols.
    return (text_bytes + 1) * (scratch_per_byte + 1) + 2 * alignof(std::uint32_t);
}

namespace {

// Until out is full. Without what ends a text.
Result<void> encode_into(const View& v, std::string_view text, std::span<const Trusted> trusted, bool add_bos, Out& out,
                         std::span<std::byte> scratch) {
    if (text.size() >= none / scratch_per_byte)
        return Error::make(Code::text_too_long, "a text of %zu bytes cannot be tokenized in one piece; split it",
                           text.size());
    if (scratch.size() < Tokenizer::scratch_bytes(text.size()))
        return Error::make(Code::memory_full, "tokenizing %zu bytes needs %zu bytes of scratch, not %zu", text.size(),
                           Tokenizer::scratch_bytes(text.size()), scratch.size());
    const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(scratch.data()) % alignof(std::uint32_t);
    auto* symbols =
        reinterpret_cast<std::uint32_t*>(scratch.data() + (misaligned ? alignof(std::uint32_t) - misaligned : 0));
    auto* copy = reinterpret_cast<char*>(symbols + (text.size() + 1) * (scratch_per_byte / 4));

    if (add_bos && v.h.flags & flag_add_bos && v.h.bos >= 0) out.put(static_cast<std::uint32_t>(v.h.bos));

    // Which bytes can start a special token: everything else is passed over without a search.
    std::array<bool, 256> starts{};
    for (std::uint32_t i = 0; i < v.h.specials.count; ++i)
        starts[static_cast<unsigned char>(v.bytes(v.table<std::uint32_t>(v.h.specials)[i])[0])] = true;

    std::size_t plain = 0;  // where the text that is not yet encoded starts
    const Trusted* range = trusted.data();
    const Trusted* const ranges_end = range + trusted.size();
    for (std::size_t at = 0; at < text.size() && !out.full;) {
        while (range != ranges_end && range->end <= at) ++range;
        if (!starts[static_cast<unsigned char>(text[at])]) {
            ++at;
            continue;
        }
        const bool inside = range != ranges_end && range->begin <= at;
        std::uint32_t id = none;
        if (inside) id = special_at(v, text, at, std::min<std::size_t>(range->end, text.size()), true);
        if (id == none) id = special_at(v, text, at, text.size(), false);
        if (id == none) {
            ++at;
            continue;
        }
        encode_plain(v, text.substr(plain, at - plain), symbols, copy, out);
        out.put(id);
        plain = at += v.bytes(id).size();
    }
    encode_plain(v, text.substr(plain), symbols, copy, out);
    return {};
}

}  // namespace

Result<std::size_t> Tokenizer::encode(std::string_view text, std::span<const Trusted> trusted, bool add_bos,
                                      std::span<std::int32_t> out_ids, std::span<std::byte> scratch) const {
    const View v(section_);
    Out out{out_ids};
    TRY(encode_into(v, text, trusted, add_bos, out, scratch));
    if (add_bos && v.h.pre == Pre::wordpiece) out.put(closing_token(v));
    if (out.full)
        return Error::make(Code::context_full, "the text has more than %zu tokens; shorten it or use a larger context",
                           out_ids.size());
    return out.n;
}

Result<Tokenizer::Fitted> Tokenizer::encode_fitting(std::string_view text, std::span<std::int32_t> out_ids,
                                                    std::span<std::byte> scratch) const {
    const View v(section_);
    if (out_ids.size() < 2)
        return Error::make(Code::incorrect_parameters, "a text needs room for 2 tokens, not %zu", out_ids.size());
    const bool closes = v.h.pre == Pre::wordpiece;
    Out out{out_ids.first(out_ids.size() - (closes ? 1 : 0))};
    TRY(encode_into(v, text, {}, true, out, scratch));
    if (closes) out_ids[out.n++] = static_cast<std::int32_t>(closing_token(v));
    return Fitted{out.n, out.full};
}

std::string_view Tokenizer::piece(std::int32_t id, bool specials) const {
    const View v(section_);
    if (id < 0 || static_cast<std::uint32_t>(id) >= v.h.vocab) return {};
    const std::uint8_t type = v.type(static_cast<std::uint32_t>(id)) & type_mask;
    if (!specials && (type == type_control || type == type_unknown || type == type_unused)) return {};
    return v.bytes(static_cast<std::uint32_t>(id));
}

std::int32_t Tokenizer::vocab() const { return static_cast<std::int32_t>(View(section_).h.vocab); }
std::int32_t Tokenizer::bos() const { return View(section_).h.bos; }
bool Tokenizer::strip_first_space() const { return View(section_).h.flags & flag_space_prefix; }

bool Tokenizer::is_end(std::int32_t id) const {
    const View v(section_);
    return id >= 0 && static_cast<std::uint32_t>(id) < v.h.vocab && v.type(static_cast<std::uint32_t>(id)) & type_end;
}

std::size_t Tokenizer::ends(std::span<std::int32_t> out) const {
    std::size_t n = 0;
    for (std::int32_t id = 0; id < vocab() && n < out.size(); id++)
        if (is_end(id)) out[n++] = id;
    return n;
}

std::int32_t Tokenizer::find(std::string_view special) const {
    const View v(section_);
    const auto* begin = v.table<std::uint32_t>(v.h.specials);
    const auto* end = begin + v.h.specials.count;
    const auto* at =
        std::lower_bound(begin, end, special, [&](std::uint32_t id, std::string_view s) { return v.bytes(id) < s; });
    return at != end && v.bytes(*at) == special ? static_cast<std::int32_t>(*at) : -1;
}

}  // namespace slmd::text
