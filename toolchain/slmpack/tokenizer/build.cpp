// The image's tokenizer section from a spec.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <unordered_map>

#include "text/section.h"
#include "text/unicode.h"
#include "toolchain/slmpack/tokenizer/alphabet.h"
#include "toolchain/slmpack/tokenizer/perfect_hash.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

namespace slmd::pack {
namespace {

using namespace text;
constexpr std::uint32_t none = 0xFFFFFFFF;
using Ids = std::unordered_map<std::string_view, std::uint32_t>;

#include "toolchain/slmpack/tokenizer/wordpiece_chars.inc"

constexpr std::size_t longest_checked_word = 256;

// Texts that end an answer in the families that we know; models rarely name all of theirs.
constexpr std::string_view end_texts[] = {"<|im_end|>",      "<|endoftext|>", "<|eot_id|>",    "<|eom_id|>",
                                          "<|end_of_text|>", "<|end|>",       "<end_of_turn>", "<|end_of_turn|>"};

[[gnu::format(printf, 1, 2)]] Error bad(const char* format, ...) {
    char text[200];
    va_list args;
    va_start(args, format);
    std::vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return Error::make(Code::model_format, "tokenizer: %s", text);
}

std::string with_spaces(std::string_view s) {
    std::string out;
    for (std::size_t at = 0; at < s.size();) {
        if (s.substr(at).starts_with("\u2581")) {
            out += ' ';
            at += 3;
        } else {
            out += s[at++];
        }
    }
    return out;
}

int byte_token(std::string_view s) {  // "<0x0A>", or -1
    const auto hex = [](char c) {
        return c >= '0' && c <= '9'   ? c - '0'
               : c >= 'A' && c <= 'F' ? c - 'A' + 10
               : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                      : -1;
    };
    if (s.size() != 6 || !s.starts_with("<0x") || s[5] != '>' || hex(s[3]) < 0 || hex(s[4]) < 0) return -1;
    return hex(s[3]) * 16 + hex(s[4]);
}

struct Pair {
    std::uint32_t left, right, id, rank;
};

// Everything that the section holds, before it is laid out.
struct Builder {
    const TokenizerSpec& spec;
    bool sentencepiece = spec.model == TokenizerSpec::Model::sentencepiece;
    bool wordpiece = spec.model == TokenizerSpec::Model::wordpiece;
    std::uint32_t vocab = static_cast<std::uint32_t>(spec.tokens.size());
    std::vector<std::string> pieces{};
    std::vector<std::uint8_t> types{};
    std::array<std::int32_t, 256> byte_ids{};
    std::vector<bool> mergeable{};  // normal tokens whose bytes are known: what text is made of
    Ids by_bytes{};                 // of mergeable tokens
    std::vector<Pair> merges{};
    std::unordered_map<std::uint64_t, std::uint32_t> merge_of{};  // (left, right) -> index
    std::vector<std::uint32_t> words{};

    static std::uint64_t key(std::uint32_t left, std::uint32_t right) {
        return static_cast<std::uint64_t>(left) << 32 | right;
    }

    Result<void> read_pieces() {
        if (vocab == 0) return bad("no tokens");
        if (vocab > max_vocab) return bad("%u tokens; at most %u are supported", vocab, max_vocab);
        if (!spec.types.empty() && spec.types.size() != vocab)
            return bad("%zu token types for %u tokens", spec.types.size(), vocab);
        if (!spec.scores.empty() && spec.scores.size() != vocab)
            return bad("%zu scores for %u tokens", spec.scores.size(), vocab);
        for (std::size_t id = 0; id < spec.scores.size(); ++id)
            if (std::isnan(spec.scores[id])) return bad("the score of token %zu is not a number", id);
        const std::pair<const char*, std::int32_t> named[] = {
            {"beginning-of-sequence", spec.bos}, {"end-of-sequence", spec.eos}, {"unknown", spec.unk}};
        for (const auto& [name, id] : named)
            if (id != -1 && (id < 0 || static_cast<std::uint32_t>(id) >= vocab))
                return bad("the %s token %d is not in the vocabulary of %u", name, id, vocab);
        types = spec.types.empty() ? std::vector<std::uint8_t>(vocab, type_normal) : spec.types;
        byte_ids.fill(-1);
        mergeable.resize(vocab);
        pieces.reserve(vocab);
        std::size_t total = 0;
        for (std::uint32_t id = 0; id < vocab; ++id) {
            const std::string& token = spec.tokens[id];
            if (types[id] < type_normal || types[id] > type_byte)
                return bad("token %u has the unknown type %u", id, types[id]);
            const bool normal = types[id] == type_normal;
            const int byte = types[id] == type_byte ? byte_token(token) : -1;
            if (types[id] == type_byte && byte < 0)
                return bad("token %u is a byte token but is not spelled <0xHH>", id);
            if (byte >= 0) {
                pieces.emplace_back(1, static_cast<char>(byte));
            } else if (wordpiece) {
                mergeable[id] = normal && !token.empty();
                pieces.push_back(token);
            } else if (sentencepiece) {
                mergeable[id] = normal && !token.empty();
                pieces.push_back(normal || types[id] == type_user_defined ? with_spaces(token) : token);
            } else {
                const auto bytes = normal ? decode_byte_alphabet(token) : std::nullopt;
                mergeable[id] = bytes && !bytes->empty();
                pieces.push_back(bytes ? *bytes : token);
            }
            if (pieces[id].size() > max_piece_bytes)
                return bad("token %u has %zu bytes; at most %u are supported", id, pieces[id].size(), max_piece_bytes);
            total += pieces[id].size();
            if (sentencepiece && byte >= 0) byte_ids[static_cast<std::size_t>(byte)] = static_cast<std::int32_t>(id);
            if (!sentencepiece && !wordpiece && mergeable[id] && pieces[id].size() == 1)
                byte_ids[static_cast<unsigned char>(pieces[id][0])] = static_cast<std::int32_t>(id);
        }
        if (total > 1u << 30) return bad("the tokens have %zu bytes together", total);
        for (std::uint32_t id = 0; id < vocab; ++id)
            if (mergeable[id]) by_bytes.emplace(pieces[id], id);
        return {};
    }

    void add_merge(std::uint32_t left, std::uint32_t right, std::uint32_t id, std::uint32_t rank) {
        if (merge_of.emplace(key(left, right), static_cast<std::uint32_t>(merges.size())).second)
            merges.push_back({left, right, id, rank});
    }

    // "left right" by rank, as in merges.txt.
    Result<void> read_merges() {
        if (spec.merges.size() >= empty24) return bad("%zu merges are too many", spec.merges.size());
        Ids by_spelling;
        for (std::uint32_t id = 0; id < vocab; ++id) by_spelling.emplace(spec.tokens[id], id);
        const auto find = [&](const std::string& s) {
            const auto at = by_spelling.find(s);
            return at == by_spelling.end() ? none : at->second;
        };
        for (std::size_t rank = 0; rank < spec.merges.size(); ++rank) {
            const std::string& m = spec.merges[rank];
            const std::size_t space = m.find(' ');
            if (space == std::string::npos || m.find(' ', space + 1) != std::string::npos)
                return bad("merge %zu (\"%.40s\") is not two tokens with one space between", rank, m.c_str());
            const std::string left = m.substr(0, space), right = m.substr(space + 1);
            const std::uint32_t l = find(left), r = find(right), joined = find(left + right);
            if (l == none || r == none || joined == none)
                return bad("merge %zu (\"%.40s\") needs the token \"%.40s\", which is not in the vocabulary", rank,
                           m.c_str(),
                           (l == none   ? left
                            : r == none ? right
                                        : left + right)
                               .c_str());
            add_merge(l, r, joined, static_cast<std::uint32_t>(rank));
        }
        return {};
    }

    // SentencePiece has scores: every way to cut a piece into two pieces is a merge, the highest score first. Equal
    // scores are equal ranks, so that the leftmost pair goes first, as there.
    void merges_from_scores() {
        std::map<float, std::uint32_t, std::greater<>> rank;
        for (std::uint32_t id = 0; id < vocab; ++id)
            if (mergeable[id]) rank.emplace(spec.scores[id], 0);
        std::uint32_t n = 0;
        for (auto& [score, r] : rank) r = n++;
        for (const auto& [bytes, id] : by_bytes)
            for (std::size_t cut = char_at(bytes, 0).bytes; cut < bytes.size(); cut += char_at(bytes, cut).bytes) {
                const auto left = by_bytes.find(bytes.substr(0, cut)), right = by_bytes.find(bytes.substr(cut));
                if (left != by_bytes.end() && right != by_bytes.end())
                    add_merge(left->second, right->second, id, rank[spec.scores[id]]);
            }
    }

    // Whether merging a token's own bytes ends in that token alone: then a word with these bytes needs no merging.
    bool is_word(std::uint32_t token) const {
        const std::string_view s = pieces[token];
        if (s.size() > longest_checked_word) return false;
        std::vector<std::uint32_t> ids;
        for (std::size_t at = 0; at < s.size();) {
            const std::size_t bytes = sentencepiece ? char_at(s, at).bytes : 1;
            const auto found = by_bytes.find(s.substr(at, bytes));
            if (found == by_bytes.end()) return false;
            ids.push_back(found->second);
            at += bytes;
        }
        while (ids.size() > 1) {
            const Pair* best = nullptr;
            std::size_t where = 0;
            for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
                const auto m = merge_of.find(key(ids[i], ids[i + 1]));
                if (m != merge_of.end() && (!best || merges[m->second].rank < best->rank))
                    best = &merges[m->second], where = i;
            }
            if (!best) return false;
            ids[where] = best->id;
            ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(where) + 1);
        }
        return ids[0] == token;
    }

    Result<Pre> pre() const {
        if (wordpiece) return Pre::wordpiece;
        if (sentencepiece) {
            // Where no piece holds a space after something else, merging never crosses into a run of spaces.
            for (std::uint32_t id = 0; id < vocab; ++id) {
                const std::size_t first = pieces[id].find_first_not_of(' ');
                if (mergeable[id] && first != std::string::npos && pieces[id].find(' ', first) != std::string::npos)
                    return Pre::whole;
            }
            return Pre::spaces;
        }
        const std::pair<const char*, Pre> known[] = {
            {"gpt-2", Pre::gpt2}, {"smollm", Pre::smollm}, {"llama-bpe", Pre::llama_bpe}, {"qwen2", Pre::qwen2}};
        for (const auto& [name, value] : known)
            if (spec.pre == name) return value;
        return bad("the pre-tokenizer \"%.60s\" is not supported; gpt-2, smollm, llama-bpe and qwen2 are",
                   spec.pre.c_str());
    }
};

// The section's bytes: the header first, then table after table.
struct Writer {
    std::vector<std::byte> bytes = std::vector<std::byte>(sizeof(TokenizerHeader));

    template <class T>
    Table put(const std::vector<T>& values) {
        const std::size_t at = round_up(bytes.size(), 8);
        bytes.resize(at + values.size() * sizeof(T));
        if (!values.empty()) std::memcpy(bytes.data() + at, values.data(), values.size() * sizeof(T));
        return {static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(values.size())};
    }
};

}  // namespace

Result<std::vector<std::byte>> build_tokenizer(const TokenizerSpec& spec) {
    Builder b{spec};
    TRY(b.read_pieces());
    const Pre pre = TRY(b.pre());
    if (b.wordpiece && (spec.bos < 0 || spec.eos < 0 || spec.unk < 0 || b.types[std::size_t(spec.eos)] != type_control))
        return bad("WordPiece needs [CLS], [SEP] and [UNK], and the vocabulary lacks one");
    if (!b.sentencepiece && spec.add_space_prefix)
        return bad("a space in front of the text (add_prefix_space) is not supported for byte-level BPE");
    if (b.sentencepiece && spec.merges.empty()) {
        if (spec.scores.empty()) return bad("SentencePiece without scores or merges");
        b.merges_from_scores();
    } else {
        TRY(b.read_merges());
    }
    for (const auto& [bytes, id] : b.by_bytes)
        if (spec.ignore_merges || pre == Pre::llama_bpe || b.wordpiece || b.is_word(id)) b.words.push_back(id);
    std::sort(b.words.begin(), b.words.end());  // the same bytes for the same spec
    std::sort(b.merges.begin(), b.merges.end(), [](const Pair& x, const Pair& y) {
        return Builder::key(x.left, x.right) < Builder::key(y.left, y.right);
    });

    std::vector<std::uint32_t> specials;
    for (std::uint32_t id = 0; id < b.vocab; ++id) {
        const std::uint8_t type = b.types[id];
        const bool special = type == type_control || type == type_user_defined || type == type_unknown;
        if (special && !b.pieces[id].empty()) specials.push_back(id);
        if (special && !b.wordpiece &&
            std::find(std::begin(end_texts), std::end(end_texts), b.pieces[id]) != std::end(end_texts))
            b.types[id] |= type_end;
    }
    std::stable_sort(specials.begin(), specials.end(), [&](auto x, auto y) { return b.pieces[x] < b.pieces[y]; });
    if (spec.eos >= 0) b.types[static_cast<std::size_t>(spec.eos)] |= type_end;
    for (const std::int32_t id : b.wordpiece ? std::vector<std::int32_t>() : spec.ends) {
        if (id < 0 || static_cast<std::uint32_t>(id) >= b.vocab)
            return bad("the end token %d is not in the vocabulary of %u", id, b.vocab);
        b.types[static_cast<std::size_t>(id)] |= type_end;
    }

    Writer w;
    WordPieceHeader characters{};
    if (b.wordpiece) {
        w.bytes.resize(sizeof(TokenizerHeader) + sizeof characters);
        const auto list = [](const auto& array) { return std::vector(std::begin(array), std::end(array)); };
        characters.ranges = w.put(spec.uncased ? list(uncased_ranges) : list(cased_ranges));
        characters.sequences = w.put(spec.uncased ? list(uncased_sequences) : std::vector<std::uint32_t>());
        std::memcpy(w.bytes.data() + sizeof(TokenizerHeader), &characters, sizeof characters);
    }
    TokenizerHeader h{};
    std::memcpy(h.magic, tokenizer_magic, sizeof h.magic);
    h.flags = (spec.add_bos ? flag_add_bos : 0) | (spec.add_space_prefix ? flag_space_prefix : 0) |
              (b.sentencepiece ? flag_sentencepiece : 0);
    h.pre = pre;
    h.vocab = b.vocab;
    h.bos = spec.bos;
    h.unk = spec.unk;

    std::vector<std::uint32_t> ends;
    std::vector<char> bytes;
    for (const std::string& p : b.pieces) {
        bytes.insert(bytes.end(), p.begin(), p.end());
        ends.push_back(static_cast<std::uint32_t>(bytes.size()));
    }
    h.piece_ends = w.put(ends);
    h.bytes = w.put(bytes);
    h.types = w.put(b.types);
    h.byte_ids = w.put(std::vector<std::int32_t>(b.byte_ids.begin(), b.byte_ids.end()));
    h.specials = w.put(specials);

    const auto merges = build_perfect_hash(
        static_cast<std::uint32_t>(b.merges.size()),
        [&](std::uint64_t seed, std::uint32_t k) { return pair_hash(seed, b.merges[k].left, b.merges[k].right); });
    const auto words =
        build_perfect_hash(static_cast<std::uint32_t>(b.words.size()),
                           [&](std::uint64_t seed, std::uint32_t k) { return bytes_hash(seed, b.pieces[b.words[k]]); });
    if (!merges || !words)
        return Error::make(Code::unknown,
                           "tokenizer: no perfect hash found; this is a bug, please report it with the model");

    Merge empty;
    std::memset(&empty, 0xFF, sizeof empty);
    std::vector<Merge> merge_slots(merges->slots, empty);
    for (std::size_t k = 0; k < b.merges.size(); ++k) {
        Merge& m = merge_slots[merges->slot_of[k]];
        store24(m.left, b.merges[k].left), store24(m.right, b.merges[k].right), store24(m.id, b.merges[k].id),
            store24(m.rank, b.merges[k].rank);
    }
    std::vector<std::uint32_t> word_slots(words->slots, empty32);
    for (std::size_t k = 0; k < b.words.size(); ++k) word_slots[words->slot_of[k]] = b.words[k];
    h.merges.seed = merges->seed;
    h.merges.displacements = w.put(merges->displacements);
    h.merges.slots = w.put(merge_slots);
    h.words.seed = words->seed;
    h.words.displacements = w.put(words->displacements);
    h.words.slots = w.put(word_slots);

    h.size = static_cast<std::uint32_t>(w.bytes.size());
    std::memcpy(w.bytes.data(), &h, sizeof h);
    return std::move(w.bytes);
}

}  // namespace slmd::pack
