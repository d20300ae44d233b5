// The tokenizer section as the two ways of encoding read it, checked by Tokenizer::open(), and where tokens go.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "text/section.h"

namespace slmd::text {

constexpr std::uint32_t none = 0xFFFFFFFF;

// The tables of a checked section.
struct View {
    const std::byte* base;
    const TokenizerHeader& h;

    explicit View(std::span<const std::byte> section)
        : base(section.data()), h(*reinterpret_cast<const TokenizerHeader*>(section.data())) {}
    template <class T>
    const T* table(const Table& t) const {
        return reinterpret_cast<const T*>(base + t.offset);
    }
    std::string_view bytes(std::uint32_t id) const {
        const auto* ends = table<std::uint32_t>(h.piece_ends);
        const std::uint32_t begin = id ? ends[id - 1] : 0;
        return {table<char>(h.bytes) + begin, ends[id] - begin};
    }
    std::uint8_t type(std::uint32_t id) const { return table<std::uint8_t>(h.types)[id]; }
    std::int32_t byte_id(char c) const { return table<std::int32_t>(h.byte_ids)[static_cast<unsigned char>(c)]; }

    template <class T>
    const T* slot(const HashTables& t, std::uint64_t hash) const {
        const std::uint16_t d = table<std::uint16_t>(t.displacements)[scaled(hash, t.displacements.count)];
        return table<T>(t.slots) + displaced(hash, d, t.slots.count);
    }
    // The token whose bytes are this word, or none.
    std::uint32_t word(std::string_view s) const {
        const std::uint32_t id = *slot<std::uint32_t>(h.words, bytes_hash(h.words.seed, s));
        return id != empty32 && bytes(id) == s ? id : none;
    }
    struct Merged {
        std::uint32_t rank = none, id = none;
    };
    Merged merge(std::uint32_t left, std::uint32_t right) const {
        const Merge* m = slot<Merge>(h.merges, pair_hash(h.merges.seed, left, right));
        if (load24(m->left) != left || load24(m->right) != right) return {};
        return {load24(m->rank), load24(m->id)};
    }
    bool sentencepiece() const { return h.flags & flag_sentencepiece; }
};

// Where tokens go.
struct Out {
    std::span<std::int32_t> ids;
    std::size_t n = 0;
    bool full = false;
    void put(std::uint32_t id) {
        if (n == ids.size())
            full = true;
        else
            ids[n++] = static_cast<std::int32_t>(id);
    }
};

}  // namespace slmd::text
