#include "grammar/automaton.h"

#include <algorithm>

#include "base/utf8.h"
#include "grammar/raw.h"

namespace slmd::grammar {
namespace {

constexpr std::uint16_t dead = Automaton::dead;

std::uint32_t mix(std::uint64_t x) {
    x = (x ^ x >> 32) * 0x9E3779B97F4A7C15u;
    return static_cast<std::uint32_t>(x >> 32);
}

// Hopcroft's algorithm (1971), for automata whose transitions may be missing: a block that waits does so for all bytes,
// and at first all of them wait. The states that are left out (those that lead nowhere) have no edges into the others.
class Minimizer {
  public:
    Minimizer(const Raw& raw, Heap& heap) : raw_(raw), heap_(heap), n_(static_cast<std::size_t>(raw.states())) {}

    Result<Automaton> run(std::size_t mark) {
        if (n_ == 0) return nothing(mark);
        if (!edges() || !distances()) return heap_full();
        if (distance_[0] == dead) return nothing(mark);
        if (!partition()) return heap_full();
        refine();
        if (blocks_ > Automaton::max_states) return too_many_states();
        return write(mark);
    }

  private:
    Result<Automaton> nothing(std::size_t mark) {
        heap_.release(mark);
        return Automaton{};
    }
    std::size_t classes() const { return static_cast<std::size_t>(raw_.classes()); }

    // The edges into each state.
    bool edges() {
        begin_ = heap_.take<std::uint32_t>(n_ + 1);
        if (begin_ == nullptr) return false;
        std::fill_n(begin_, n_ + 1, 0u);
        for (std::size_t s = 0; s < n_; s++) {
            const std::uint16_t* const row = raw_.next(static_cast<int>(s));
            for (std::size_t c = 0; c < classes(); c++)
                if (row[c] != dead) begin_[row[c]]++;
        }
        for (std::size_t s = 0; s < n_; s++) begin_[s + 1] += begin_[s];
        from_ = heap_.take<std::uint16_t>(begin_[n_]);
        class_ = heap_.take<std::uint8_t>(begin_[n_]);
        if (from_ == nullptr || class_ == nullptr) return false;
        for (std::size_t s = n_; s-- > 0;) {
            const std::uint16_t* const row = raw_.next(static_cast<int>(s));
            for (std::size_t c = classes(); c-- > 0;) {
                if (row[c] == dead) continue;
                const std::uint32_t at = --begin_[row[c]];
                from_[at] = static_cast<std::uint16_t>(s), class_[at] = static_cast<std::uint8_t>(c);
            }
        }
        return true;
    }

    // How far every state is from accepting; state_ holds those that get there.
    bool distances() {
        distance_ = heap_.take<std::uint16_t>(n_);
        state_ = heap_.take<std::uint16_t>(n_);
        if (distance_ == nullptr || state_ == nullptr) return false;
        for (std::size_t s = 0; s < n_; s++) {
            distance_[s] = raw_.label(static_cast<int>(s)) != 0 ? 0 : dead;
            if (distance_[s] == 0) state_[live_++] = static_cast<std::uint16_t>(s);
        }
        for (std::size_t i = 0; i < live_; i++) {
            const std::uint16_t s = state_[i];
            for (std::uint32_t e = begin_[s]; e < begin_[s + 1u]; e++) {
                if (distance_[from_[e]] != dead) continue;
                distance_[from_[e]] = static_cast<std::uint16_t>(distance_[s] + 1);
                state_[live_++] = from_[e];
            }
        }
        return true;
    }

    // By label and distance: equal states agree in both, and what is told apart here costs no refining.
    bool partition() {
        place_ = heap_.take<std::uint16_t>(n_);
        block_ = heap_.take<std::uint16_t>(n_);
        first_ = heap_.take<std::uint16_t>(live_);
        size_ = heap_.take<std::uint16_t>(live_);
        marked_ = heap_.take<std::uint16_t>(live_);
        touched_ = heap_.take<std::uint16_t>(live_);
        waiting_ = heap_.take<std::uint16_t>(live_);
        taken_ = heap_.take<std::uint16_t>(begin_[n_]);
        if (place_ == nullptr || block_ == nullptr || first_ == nullptr || size_ == nullptr || marked_ == nullptr ||
            touched_ == nullptr || waiting_ == nullptr || taken_ == nullptr)
            return false;
        const auto key = [&](std::uint16_t s) {
            return static_cast<std::uint32_t>(raw_.label(s)) << 16 | distance_[s];
        };
        std::sort(state_, state_ + live_, [&](std::uint16_t a, std::uint16_t b) { return key(a) < key(b); });
        for (std::size_t i = 0; i < live_; i++) {
            if (i == 0 || key(state_[i]) != key(state_[i - 1])) {
                first_[blocks_] = static_cast<std::uint16_t>(i);
                size_[blocks_] = marked_[blocks_] = 0;
                wait(static_cast<std::uint16_t>(blocks_++));
            }
            place_[state_[i]] = static_cast<std::uint16_t>(i);
            block_[state_[i]] = static_cast<std::uint16_t>(blocks_ - 1);
            size_[blocks_ - 1]++;
        }
        return true;
    }

    void wait(std::uint16_t block) { waiting_[waiting_count_++] = block; }

    void refine() {
        while (waiting_count_ > 0) {
            const std::uint16_t by = waiting_[--waiting_count_];
            // The edges into the block as it is now, by class: splitting it below must not change them.
            std::uint32_t at[257] = {};
            for (std::size_t i = 0; i < size_[by]; i++) {
                const std::uint16_t s = state_[first_[by] + i];
                for (std::uint32_t e = begin_[s]; e < begin_[s + 1u]; e++) at[class_[e] + 1u]++;
            }
            for (std::size_t c = 0; c < classes(); c++) at[c + 1] += at[c];
            for (std::size_t i = 0; i < size_[by]; i++) {
                const std::uint16_t s = state_[first_[by] + i];
                for (std::uint32_t e = begin_[s]; e < begin_[s + 1u]; e++) taken_[at[class_[e]]++] = from_[e];
            }
            // at[c] is now where class c ends.
            for (std::size_t c = 0, e = 0; c < classes(); c++) {
                std::size_t touched = 0;
                for (; e < at[c]; e++) {
                    const std::uint16_t s = taken_[e], b = block_[s];
                    if (marked_[b] == 0) touched_[touched++] = b;
                    const std::uint16_t to = static_cast<std::uint16_t>(first_[b] + marked_[b]++), other = state_[to];
                    state_[place_[s]] = other, place_[other] = place_[s];
                    state_[to] = s, place_[s] = to;
                }
                while (touched > 0) split(touched_[--touched]);
            }
        }
    }

    // The marked states of a block, or the others, whichever are fewer, become a block of their own, and wait: the rest
    // waits already, or was told apart by the whole, and is now by the difference.
    void split(std::uint16_t b) {
        const std::uint16_t marked = marked_[b], others = static_cast<std::uint16_t>(size_[b] - marked);
        marked_[b] = 0;
        if (others == 0) return;
        const auto made = static_cast<std::uint16_t>(blocks_++);
        marked_[made] = 0;
        if (marked <= others) {
            first_[made] = first_[b], size_[made] = marked;
            first_[b] = static_cast<std::uint16_t>(first_[b] + marked), size_[b] = others;
        } else {
            first_[made] = static_cast<std::uint16_t>(first_[b] + marked), size_[made] = others;
            size_[b] = marked;
        }
        for (std::size_t i = 0; i < size_[made]; i++) block_[state_[first_[made] + i]] = made;
        wait(made);
    }

    // The block to which a block's states go with a class, by its number; dead when they go nowhere.
    std::uint16_t target(const std::uint16_t* row, std::size_t c) const {
        return row[c] == dead || distance_[row[c]] == dead ? dead : marked_[block_[row[c]]];
    }
    const std::uint16_t* row(std::size_t number) const { return raw_.next(state_[first_[touched_[number]]]); }

    Result<Automaton> write(std::size_t mark) {
        // Breadth first in the order of the bytes, which makes the numbers canonical. The arrays of refine() have
        // served: marked_ is now the number of each block, touched_ the block of each number.
        std::fill_n(marked_, blocks_, dead);
        std::size_t numbered = 0;
        const auto number = [&](std::uint16_t state) {
            const std::uint16_t b = block_[state];
            if (marked_[b] != dead) return;
            marked_[b] = static_cast<std::uint16_t>(numbered);
            touched_[numbered++] = b;
        };
        number(0);
        for (std::size_t i = 0; i < numbered; i++)
            for (std::size_t c = 0; c < classes(); c++)
                if (row(i)[c] != dead && distance_[row(i)[c]] != dead) number(row(i)[c]);

        // Classes that agree in all states are one.
        std::uint64_t hash[256] = {};
        for (std::size_t i = 0; i < blocks_; i++)
            for (std::size_t c = 0; c < classes(); c++)
                hash[c] = (hash[c] ^ target(row(i), c)) * 0x100000001B3u + (hash[c] >> 47);
        std::uint8_t merged[256];
        std::size_t kept[256], count = 0;
        for (std::size_t c = 0; c < classes(); c++) {
            std::size_t k = 0;
            for (; k < count; k++) {
                if (hash[kept[k]] != hash[c]) continue;
                std::size_t i = 0;
                while (i < blocks_ && target(row(i), c) == target(row(i), kept[k])) i++;
                if (i == blocks_) break;
            }
            if (k == count) kept[count++] = c;
            merged[c] = static_cast<std::uint8_t>(k);
        }

        // In one piece, so that it can be moved down as one.
        const std::size_t size = blocks_ * count + 2 * blocks_ + 128;
        auto* const made = heap_.take<std::uint16_t>(size);
        if (made == nullptr) return heap_full();
        std::uint16_t* out = made;
        for (std::size_t i = 0; i < blocks_; i++)
            for (std::size_t k = 0; k < count; k++) *out++ = target(row(i), kept[k]);
        for (std::size_t i = 0; i < blocks_; i++) *out++ = raw_.label(state_[first_[touched_[i]]]);
        for (std::size_t i = 0; i < blocks_; i++) *out++ = distance_[state_[first_[touched_[i]]]];
        auto* const bytes = reinterpret_cast<std::uint8_t*>(out);
        for (std::size_t b = 0; b < 256; b++) bytes[b] = merged[raw_.byte_class()[b]];

        heap_.release(mark);
        auto* const kept_at = heap_.take<std::uint16_t>(size);  // there is room: it lies below what was just taken
        std::memmove(kept_at, made, size * sizeof *made);
        Automaton a;
        a.states = static_cast<int>(blocks_), a.classes = static_cast<int>(count);
        a.next = kept_at, a.label = a.next + blocks_ * count, a.to_end = a.label + blocks_;
        a.byte_class = reinterpret_cast<const std::uint8_t*>(a.to_end + blocks_);
        return a;
    }

    const Raw& raw_;
    Heap& heap_;
    std::size_t n_, live_ = 0, blocks_ = 0, waiting_count_ = 0;
    std::uint32_t* begin_ = nullptr;                     // [n + 1] where the edges into a state begin
    std::uint16_t* from_ = nullptr;                      // [edges]
    std::uint8_t* class_ = nullptr;                      // [edges]
    std::uint16_t* taken_ = nullptr;                     // [edges] those into one block, by class
    std::uint16_t* distance_ = nullptr;                  // [n]
    std::uint16_t *state_ = nullptr, *place_ = nullptr;  // [live], [n] the states by block, and where each is
    std::uint16_t* block_ = nullptr;                     // [n]
    std::uint16_t *first_ = nullptr, *size_ = nullptr, *marked_ = nullptr, *touched_ = nullptr;  // [blocks]
    std::uint16_t* waiting_ = nullptr;                                                           // [blocks]
};

// Releases what was built above the mark when it goes wrong.
Result<Automaton> released(Result<Automaton> result, Heap& heap, std::size_t mark) {
    if (!result) heap.release(mark);
    return result;
}

Result<Automaton> build_words(std::span<const std::string_view> list, Encoding encoding, Heap& heap) {
    const std::size_t mark = heap.used();
    // A word's bytes one by one, to whatever takes them until it says no.
    const auto each_byte = [&](std::string_view word, auto&& take) {
        for (const char c : word) {
            unsigned char bytes[6] = {static_cast<unsigned char>(c)};
            const int n = encoding == Encoding::json && bytes[0] < 0x80 ? json_character(bytes[0], bytes) : 1;
            for (int i = 0; i < n; i++)
                if (!take(bytes[i])) return false;
        }
        return true;
    };

    bool used[256] = {};
    for (std::size_t i = 0; i < list.size(); i++) {
        if (!utf8_valid(list[i])) return Error::make(Code::invalid_characters, "grammar: word %zu is not UTF-8", i + 1);
        each_byte(list[i], [&](unsigned char b) { return used[b] = true; });
    }
    // Every byte that occurs is a class; all others are one.
    std::uint8_t byte_class[256];
    int classes = 0, rest = -1;
    for (int b = 0; b < 256; b++) {
        if (!used[b] && rest < 0) rest = classes++;
        byte_class[b] = static_cast<std::uint8_t>(used[b] ? classes++ : rest);
    }

    Raw raw(heap, byte_class, classes);
    TRY(raw.add());
    for (std::size_t i = 0; i < list.size(); i++) {
        std::uint16_t state = 0;
        Error error = too_many_states();
        const bool done = each_byte(list[i], [&](unsigned char b) {
            std::uint16_t& next = raw.next(state)[byte_class[b]];
            if (next == dead) {
                // No two states of the tree are equal, as no two words' labels are (equal words are one): none
                // beyond the limit will be saved by minimizing.
                if (raw.states() == Automaton::max_states) return false;
                const auto added = raw.add();
                if (!added) {
                    error = added.error();
                    return false;
                }
                next = added.value();
            }
            state = next;
            return true;
        });
        if (!done) return error;
        if (raw.label(state) != 0) continue;
        if (i >= 0xFFFF) return Error::make(Code::text_too_long, "grammar: more than 65535 words");
        raw.label(state) = static_cast<std::uint16_t>(i + 1);
    }
    return minimal(raw, heap, mark);
}

Result<Automaton> build_pairs(const Automaton& a, const Automaton& b, LabelOf label_of, void* context, Heap& heap) {
    const std::size_t mark = heap.used();
    const auto class_in = [](const Automaton& of, int byte) { return of.states == 0 ? 0 : of.byte_class[byte]; };
    std::uint8_t byte_class[256];
    int class_a[256], class_b[256], classes = 0;
    for (int byte = 0; byte < 256; byte++) {
        const int ca = class_in(a, byte), cb = class_in(b, byte);
        int k = 0;
        while (k < classes && (class_a[k] != ca || class_b[k] != cb)) k++;
        if (k == classes) class_a[k] = ca, class_b[k] = cb, classes++;
        byte_class[byte] = static_cast<std::uint8_t>(k);
    }

    Raw raw(heap, byte_class, classes);
    Growing<std::uint32_t> pairs(heap, 1);
    Index index(heap);
    const auto state_of = [&](std::uint16_t x, std::uint16_t y) -> Result<std::uint16_t> {
        if (x == dead && y == dead) return dead;
        const std::uint32_t pair = static_cast<std::uint32_t>(x) << 16 | y;
        std::uint16_t* const at = index.find(
            mix(pair), raw.states(), [&](std::uint16_t s) { return *pairs[s] == pair; },
            [&](std::uint16_t s) { return mix(*pairs[s]); });
        if (at == nullptr) return heap_full();
        if (*at != dead) return *at;
        const std::uint16_t made = TRY(raw.add());
        std::uint32_t* const kept_pair = pairs.add();
        if (kept_pair == nullptr) return heap_full();
        *kept_pair = pair;
        *at = made;
        raw.label(made) =
            label_of(context, x == dead ? std::uint16_t{0} : a.label[x], y == dead ? std::uint16_t{0} : b.label[y]);
        return made;
    };
    const auto step = [](const Automaton& of, std::uint16_t s, int c) {
        return s == dead ? dead
                         : of.next[static_cast<std::size_t>(s) * static_cast<std::size_t>(of.classes) +
                                   static_cast<std::size_t>(c)];
    };
    TRY(state_of(a.states == 0 ? dead : std::uint16_t{0}, b.states == 0 ? dead : std::uint16_t{0}));
    for (int s = 0; s < raw.states(); s++) {
        const auto x = static_cast<std::uint16_t>(*pairs[static_cast<std::size_t>(s)] >> 16);
        const auto y = static_cast<std::uint16_t>(*pairs[static_cast<std::size_t>(s)] & 0xFFFF);
        for (int c = 0; c < classes; c++)
            raw.next(s)[c] = TRY(state_of(step(a, x, class_a[c]), step(b, y, class_b[c])));
    }
    return minimal(raw, heap, mark);
}

}  // namespace

Error heap_full() {
    return Error::make(Code::memory_full, "grammar: it does not fit into the memory that is set aside for it");
}

Error too_many_states() {
    return Error::make(Code::text_too_long, "grammar: more than %d states; ask for less", Automaton::max_states);
}

Result<std::uint16_t> Raw::add() {
    if (states() == max_states) return too_many_states();
    std::uint16_t* const next = rows_.add();
    if (next == nullptr) return heap_full();
    std::uint16_t* const label = labels_.add();
    if (label == nullptr) return heap_full();
    std::fill_n(next, classes_, Automaton::dead);
    *label = 0;
    return static_cast<std::uint16_t>(states() - 1);
}

Result<Automaton> minimal(const Raw& raw, Heap& heap, std::size_t mark) { return Minimizer(raw, heap).run(mark); }

int json_character(unsigned char c, unsigned char out[6]) {
    constexpr std::string_view short_forms = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (std::size_t i = 0; i < short_forms.size(); i += 2) {
        if (static_cast<unsigned char>(short_forms[i]) != c) continue;
        out[0] = '\\', out[1] = static_cast<unsigned char>(short_forms[i + 1]);
        return 2;
    }
    out[0] = c;
    if (c >= 0x20) return 1;
    out[0] = '\\', out[1] = 'u', out[2] = '0', out[3] = '0';
    out[4] = c < 0x10 ? '0' : '1';
    out[5] = static_cast<unsigned char>("0123456789abcdef"[c & 15]);
    return 6;
}

Result<Automaton> words(std::span<const std::string_view> list, Encoding encoding, Heap& heap) {
    const std::size_t mark = heap.used();
    return released(build_words(list, encoding, heap), heap, mark);
}

Result<Automaton> combine(const Automaton& a, const Automaton& b, LabelOf label_of, void* context, Heap& heap) {
    const std::size_t mark = heap.used();
    return released(build_pairs(a, b, label_of, context, heap), heap, mark);
}

Result<Automaton> intersection(const Automaton& a, const Automaton& b, Heap& heap) {
    const auto both = [](void*, std::uint16_t x, std::uint16_t y) -> std::uint16_t { return x != 0 && y != 0; };
    return combine(a, b, both, nullptr, heap);
}

Result<Automaton> difference(const Automaton& a, const Automaton& b, Heap& heap) {
    const auto first_only = [](void*, std::uint16_t x, std::uint16_t y) -> std::uint16_t { return x != 0 && y == 0; };
    return combine(a, b, first_only, nullptr, heap);
}

bool accepts(const Automaton& automaton, std::string_view bytes) {
    if (automaton.states == 0) return false;
    std::uint16_t state = 0;
    for (const char c : bytes) {
        state = automaton.step(state, static_cast<unsigned char>(c));
        if (state == dead) return false;
    }
    return automaton.label[state] != 0;
}

}  // namespace slmd::grammar
