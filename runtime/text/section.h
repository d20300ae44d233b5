// The tokenizer and chat sections of an image, every byte. Little endian, used in place; slmpack writes them, open()
// checks them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace slmd::text {

// ---- Tokenizer: TokenizerHeader, then its tables, each at a multiple of 8 bytes.

constexpr char tokenizer_magic[8] = {'S', 'L', 'M', 'T', 'O', 'K', '1', 0};
constexpr std::uint32_t max_vocab = 1u << 22, max_piece_bytes = 1u << 16;

// How a text is cut into words: the pre-tokenizer of byte-level BPE, one of the two ways of SentencePiece, or BERT's
// basic tokenizer, behind which words are cut into pieces from the left and nothing is merged.
enum class Pre : std::uint32_t { whole, spaces, gpt2, smollm, llama_bpe, qwen2, wordpiece };
constexpr std::uint32_t pre_count = 7;

constexpr std::uint32_t flag_add_bos = 1, flag_space_prefix = 2, flag_sentencepiece = 4, known_tokenizer_flags = 7;

// A table of the section: count elements at a byte offset from the section's start.
struct Table {
    std::uint32_t offset, count;
};

// A perfect hash with displacements: bucket = high bits of h, slot = displaced(h, displacements[bucket]). A key that is
// not in the set lands on some other key's slot, so whoever asks compares. (Hash and displace: Belazzougui, Botelho,
// Dietzfelbinger, ESA 2009.)
struct HashTables {
    std::uint64_t seed;
    Table displacements;  // u16
    Table slots;          // Merge or u32
};

// Tokens `left` and `right` side by side become `id`; the lowest rank first, then the leftmost. 24 bits each.
struct Merge {
    std::uint8_t left[3], right[3], id[3], rank[3];
};
static_assert(sizeof(Merge) == 12 && alignof(Merge) == 1);
constexpr std::uint32_t empty24 = 0xFFFFFF, empty32 = 0xFFFFFFFF;

struct TokenizerHeader {
    char magic[8];
    std::uint32_t size;  // of the section
    std::uint32_t flags;
    Pre pre;
    std::uint32_t vocab;
    std::int32_t bos, unk;  // -1 when there is none
    Table piece_ends;       // u32 a token: the end of its bytes in `bytes`; it starts where the one before ends
    Table bytes;            // as they continue a text: byte-level BPE decoded, SentencePiece with spaces
    Table types;            // u8 a token: GGUF's type, type_end
    Table byte_ids;         // i32[256]: the token of a single byte, -1 when there is none
    Table specials;     // u32: ids of tokens that are found by their text before words are cut, sorted by their bytes
    HashTables merges;  // of Merge, keyed by (left, right)
    HashTables words;   // of u32 ids, keyed by their bytes: the words that are one token
};
static_assert(sizeof(TokenizerHeader) == 8 + 6 * 4 + 5 * 8 + 2 * 24);

// What a character of a text is to WordPiece: the last range that begins at or before it says so.
enum class CharAction : std::uint32_t {
    word,      // a character of a word, after delta has been added
    space,     // ends a word
    alone,     // a word of its own, after delta has been added: punctuation, ideographs
    dropped,   // nothing
    sequence,  // several: delta is their place in `sequences` << 3 | how many
    hangul,    // a syllable, which is two or three letters (Unicode 3.12, conjoining jamo)
};
constexpr std::uint32_t char_actions = 6;

struct CharRange {
    std::uint32_t first;
    CharAction action;
    std::int32_t delta;
};

// Behind the TokenizerHeader of Pre::wordpiece, whose `bos` stands before a text and the token marked type_end behind
// it. Words are looked up in `words`, a piece that continues a word with ## before it; a word of which a piece is not
// there is `unk`.
struct WordPieceHeader {
    Table ranges;     // CharRange, rising, from 0
    Table sequences;  // u32: code point << 2 | action, word or alone
};
constexpr std::uint32_t word_characters = 100;  // a longer word is `unk`, as everywhere
constexpr std::uint32_t max_char_ranges = 1u << 16, last_character = 0x10FFFF;

constexpr std::uint8_t type_normal = 1, type_unknown = 2, type_control = 3, type_user_defined = 4, type_unused = 5,
                       type_byte = 6;
constexpr std::uint8_t type_mask = 7, type_end = 0x80;

inline std::uint32_t load24(const std::uint8_t* p) { return p[0] | p[1] << 8 | static_cast<std::uint32_t>(p[2]) << 16; }
inline void store24(std::uint8_t* p, std::uint32_t v) {
    p[0] = static_cast<std::uint8_t>(v), p[1] = static_cast<std::uint8_t>(v >> 8),
    p[2] = static_cast<std::uint8_t>(v >> 16);
}

inline std::uint64_t mix(std::uint64_t h) {
    h = (h ^ h >> 32) * 0xD6E8FEB86659FD93;
    return h ^ h >> 32;
}
inline std::uint64_t pair_hash(std::uint64_t seed, std::uint32_t left, std::uint32_t right) {
    return mix(seed ^ (static_cast<std::uint64_t>(left) << 32 | right) * 0x9E3779B97F4A7C15);
}
inline std::uint64_t bytes_hash(std::uint64_t seed, std::string_view s) {
    std::uint64_t h = seed ^ s.size() * 0x9E3779B97F4A7C15;
    for (; s.size() >= 8; s.remove_prefix(8)) h = mix(h ^ load<std::uint64_t>(s.data()));
    std::uint64_t tail = 0;
    for (std::size_t i = 0; i < s.size(); ++i)
        tail |= static_cast<std::uint64_t>(static_cast<unsigned char>(s[i])) << 8 * i;
    return mix(h ^ tail);
}
inline std::uint32_t scaled(std::uint64_t h, std::uint32_t n) {
    return static_cast<std::uint32_t>((h >> 32) * n >> 32);
}
inline std::uint32_t displaced(std::uint64_t h, std::uint16_t displacement, std::uint32_t slots) {
    return scaled((h ^ displacement * 0x9E3779B97F4A7C15) * 0xC2B2AE3D27D4EB4F, slots);
}

// ---- Chat: ChatHeader, then the strings that it names.
//
// A conversation is U1, U2, ... of the user with the answers A1, A2, ... between them, and perhaps a system text S. Its
// prompt is, without S and with it:
//
//   start                         U1 after_user A1 after_assistant U2 ... generation
//   system_prefix S system_suffix U1 after_user A1 after_assistant U2 ... generation
//
// and with S, where chat_system_last is set and U2 is the last, as Mistral's templates have it:
//
//   start U1 after_user A1 after_assistant system_prefix S system_suffix U2 generation

constexpr char chat_magic[8] = {'S', 'L', 'M', 'C', 'H', 'A', 'T', '2'};

enum class ChatText : std::uint32_t {
    start,
    system_prefix,
    system_suffix,
    after_user,
    after_assistant,
    generation,     // ends the last user's turn and opens the assistant's
    reasoning_end,  // of an answer, only what follows the last of these is kept; empty: all of it
};
constexpr std::uint32_t chat_texts = 7;

constexpr std::uint32_t chat_has_bos = 1;      // the template writes the BOS token itself
constexpr std::uint32_t chat_no_system = 2;    // there is no place for a system text
constexpr std::uint32_t chat_system_last = 4;  // it stands before the last user's text
constexpr std::uint32_t known_chat_flags = 7;

// What is taken away at the ends of a message's text.
enum class ChatTrim : std::uint32_t {
    system,
    user_after_system,  // the one that follows the system text
    first_user,         // where there is no system text
    user,
    assistant,
    answer,  // of the assistant, after reasoning_end
};
constexpr std::uint32_t chat_trims = 6;
constexpr std::uint8_t trim_left = 1, trim_right = 2;                    // white space
constexpr std::uint8_t trim_newlines_left = 4, trim_newlines_right = 8;  // U+000A only
constexpr std::uint8_t known_trims = 15;

struct ChatHeader {
    char magic[8];
    std::uint32_t size, flags;
    std::uint8_t trims[8];    // by ChatTrim; the rest is 0
    Table texts[chat_texts];  // count: bytes
};
static_assert(sizeof(ChatHeader) == 24 + 8 * chat_texts);

}  // namespace slmd::text
