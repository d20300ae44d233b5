#include "grammar/automaton.h"

#include <algorithm>
#include <cstring>

#include "base/utf8.h"

namespace slmd::grammar {
namespace {

constexpr std::uint16_t dead = Automaton::dead;
constexpr std::uint32_t endless = UINT32_MAX;

Error full() { return Error::make(Code::memory_full, "the grammar is too large for the memory that it has"); }

std::uint64_t mixed(std::uint64_t h, std::uint64_t v) {
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

std::size_t power_of_two(std::size_t n) {
    std::size_t p = 16;
    while (p < n) p *= 2;
    return p;
}

}  // namespace

bool accepts(const Automaton& a, std::string_view bytes) {
    if (a.states == 0) return false;
    std::uint16_t s = 0;
    for (const char c : bytes)
        if ((s = a.step(s, static_cast<unsigned char>(c))) == dead) return false;
    return a.label[s] != 0;
}

Result<Automaton> minimal(const Table& t, Heap& heap, std::size_t mark) {
    const auto n = static_cast<std::size_t>(t.states), k = static_cast<std::size_t>(t.classes);
    const auto next = [&](std::size_t s, std::size_t c) { return t.next[s * k + c]; };
    // Who leads where, without doubles that stand side by side.
    auto* const begin = heap.take<std::uint32_t>(n + 1);
    auto* const shortest = heap.take<std::uint32_t>(n);
    auto* const longest = heap.take<std::uint32_t>(n);
    auto* const open = heap.take<std::uint32_t>(n);  // successors that are not done
    auto* const queue = heap.take<std::uint16_t>(n);
    auto* const group = heap.take<std::uint16_t>(n);
    auto* const fresh = heap.take<std::uint16_t>(n);
    if (fresh == nullptr) return full();
    std::fill_n(begin, n + 1, 0u);
    const auto each_edge = [&](auto use) {
        for (std::size_t s = 0; s < n; s++) {
            std::uint16_t last = dead;
            for (std::size_t c = 0; c < k; c++)
                if (const std::uint16_t to = next(s, c); to != dead && to != last) use(s, last = to);
        }
    };
    each_edge([&](std::size_t, std::uint16_t to) { begin[to + 1u]++; });
    for (std::size_t s = 0; s < n; s++) begin[s + 1] += begin[s];
    auto* const from = heap.take<std::uint16_t>(begin[n]);
    if (from == nullptr && begin[n] > 0) return full();
    std::copy(begin, begin + n, open);
    each_edge([&](std::size_t s, std::uint16_t to) { from[open[to]++] = static_cast<std::uint16_t>(s); });

    // Bytes to the nearest end; without one the state is useless.
    std::size_t head = 0, tail = 0;
    for (std::size_t s = 0; s < n; s++)
        if (shortest[s] = t.label[s] != 0 ? 0 : endless; shortest[s] == 0) queue[tail++] = static_cast<std::uint16_t>(s);
    while (head < tail) {
        const std::uint16_t s = queue[head++];
        for (std::uint32_t e = begin[s]; e < begin[s + 1u]; e++)
            if (shortest[from[e]] == endless) {
                shortest[from[e]] = shortest[s] + 1;
                queue[tail++] = from[e];
            }
    }
    if (n == 0 || shortest[0] == endless) {
        heap.release(mark);
        return Automaton{};
    }
    // Bytes of the longest text, endless where there is a loop: equal states agree in it, and chains are told apart at once.
    std::fill_n(open, n, 0u);
    std::fill_n(longest, n, endless);
    each_edge([&](std::size_t s, std::uint16_t to) { open[s] += shortest[to] != endless; });
    head = tail = 0;
    for (std::size_t s = 0; s < n; s++)
        if (shortest[s] != endless && open[s] == 0) longest[s] = 0, queue[tail++] = static_cast<std::uint16_t>(s);
    while (head < tail) {
        const std::uint16_t s = queue[head++];
        for (std::uint32_t e = begin[s]; e < begin[s + 1u]; e++) {
            const std::uint16_t f = from[e];
            if (--open[f] != 0) continue;
            std::uint32_t most = 0;
            for (std::size_t c = 0; c < k; c++)
                if (const std::uint16_t to = next(f, c); to != dead && shortest[to] != endless) most = std::max(most, longest[to] + 1);
            longest[f] = most;
            queue[tail++] = f;
        }
    }
    // Moore: states are apart when their labels are, or when a byte leads them apart. Rounds are few as chains are apart
    // from the start; were they not, it stays as it is, larger and as good.
    const std::size_t slots = power_of_two(2 * n);
    auto* const table = heap.take<std::uint32_t>(slots);
    auto* const hashes = heap.take<std::uint64_t>(n);
    if (hashes == nullptr) return full();
    std::size_t groups = 0;
    const auto regroup = [&](auto hash_of, auto same) {
        std::fill_n(table, slots, endless);
        std::size_t count = 0;
        for (std::size_t s = 0; s < n; s++) {
            if (shortest[s] == endless) continue;
            hashes[s] = hash_of(s);
            std::size_t at = hashes[s] & (slots - 1);
            while (table[at] != endless && !(hashes[table[at]] == hashes[s] && same(table[at], s))) at = (at + 1) & (slots - 1);
            if (table[at] == endless) table[at] = static_cast<std::uint32_t>(s), fresh[s] = static_cast<std::uint16_t>(count++);
            fresh[s] = fresh[table[at]];
        }
        std::copy(fresh, fresh + n, group);
        return count;
    };
    std::size_t count = regroup(
        [&](std::size_t s) { return mixed(mixed(mixed(1, t.label[s]), shortest[s]), longest[s]); },
        [&](std::size_t a, std::size_t b) {
            return t.label[a] == t.label[b] && shortest[a] == shortest[b] && longest[a] == longest[b];
        });
    const auto target = [&](std::size_t s, std::size_t c) {
        const std::uint16_t to = next(s, c);
        return to == dead || shortest[to] == endless ? dead : group[to];
    };
    for (int round = 0; count != groups; round++) {
        groups = count;
        if (round == 128) {
            count = regroup([&](std::size_t s) { return mixed(1, s); }, [](std::size_t a, std::size_t b) { return a == b; });
            groups = count;
            break;
        }
        // group changes only after all of a round are done: fresh holds the new ones.
        count = regroup(
            [&](std::size_t s) {
                std::uint64_t h = mixed(1, group[s]);
                for (std::size_t c = 0; c < k; c++) h = mixed(h, target(s, c));
                return h;
            },
            [&](std::size_t a, std::size_t b) {
                if (group[a] != group[b]) return false;
                for (std::size_t c = 0; c < k; c++)
                    if (target(a, c) != target(b, c)) return false;
                return true;
            });
    }
    // Numbered as they are found from the start.
    auto* const number = heap.take<std::uint16_t>(n);
    auto* const column = heap.take<std::uint16_t>(k);
    if (number == nullptr || column == nullptr) return full();
    std::fill_n(number, n, dead);
    head = tail = 0;
    number[group[0]] = 0;
    queue[tail++] = 0;
    while (head < tail) {
        const std::uint16_t s = queue[head++];
        for (std::size_t c = 0; c < k; c++)
            if (const std::uint16_t g = target(s, c); g != dead && number[g] == dead) {
                number[g] = static_cast<std::uint16_t>(tail);
                queue[tail++] = next(s, c);
            }
    }
    const std::size_t states = tail;
    // Classes of bytes that always lead to the same.
    std::size_t classes = 0;
    for (std::size_t c = 0; c < k; c++) {
        std::size_t like = 0;
        for (; like < c; like++) {
            if (column[like] == dead) continue;
            bool same = true;
            for (std::size_t i = 0; i < states && same; i++) same = target(queue[i], c) == target(queue[i], like);
            if (same) break;
        }
        column[c] = like < c ? column[like] : static_cast<std::uint16_t>(classes++);
    }
    // One block, laid out as it will stand, then moved down as a whole.
    const std::size_t words = states * classes + 2 * states;
    auto* const block = heap.take<std::uint16_t>(words + 128);
    if (block == nullptr) return full();
    std::uint16_t *const label = block + states * classes, *const to_end = label + states;
    for (std::size_t i = 0; i < states; i++) {
        label[i] = t.label[queue[i]];
        to_end[i] = static_cast<std::uint16_t>(std::min<std::uint32_t>(shortest[queue[i]], 0xFFFE));
        for (std::size_t c = 0; c < k; c++) {
            const std::uint16_t g = target(queue[i], c);
            block[i * classes + column[c]] = g == dead ? dead : number[g];
        }
    }
    auto* const bytes = reinterpret_cast<std::uint8_t*>(to_end + states);
    for (int b = 0; b < 256; b++) bytes[b] = static_cast<std::uint8_t>(column[t.byte_class[b]]);
    heap.release(mark);
    auto* const kept = heap.take<std::uint16_t>(words + 128);
    std::memmove(kept, block, (words + 128) * sizeof *kept);
    Automaton a;
    a.states = static_cast<int>(states);
    a.classes = static_cast<int>(classes);
    a.next = kept;
    a.label = kept + states * classes;
    a.to_end = a.label + states;
    a.byte_class = reinterpret_cast<const std::uint8_t*>(a.to_end + states);
    return a;
}

// A trie.
Result<Automaton> words(std::span<const std::string_view> list, Encoding encoding, Heap& heap) {
    const std::size_t mark = heap.used();
    Table t;
    // Bytes that occur have classes of their own, the others share class 0.
    char written[8];
    const auto encoded = [&](char c) -> std::string_view {
        const std::string_view from = "\"\\\b\f\n\r\t", to = "\"\\bfnrt";
        if (encoding == Encoding::json) {
            if (const std::size_t i = from.find(c); i != std::string_view::npos) {
                written[0] = '\\', written[1] = to[i];
                return {written, 2};
            }
            if (static_cast<unsigned char>(c) < 0x20) {
                std::memcpy(written, "\\u00", 4);
                written[4] = "0123456789abcdef"[c >> 4], written[5] = "0123456789abcdef"[c & 15];
                return {written, 6};
            }
        }
        written[0] = c;
        return {written, 1};
    };
    std::size_t bytes = 0;
    int classes = 1;
    for (const std::string_view w : list) {
        if (!utf8_valid(w)) return Error::make(Code::invalid_characters, "\"%.*s\" is not UTF-8", static_cast<int>(std::min<std::size_t>(w.size(), 40)), w.data());
        for (const char c : w)
            for (const char e : encoded(c)) {
                bytes++;
                std::uint8_t& k = t.byte_class[static_cast<unsigned char>(e)];
                if (k == 0) k = static_cast<std::uint8_t>(classes++);
            }
    }
    if (bytes + 1 > Automaton::max_states)
        return Error::make(Code::text_too_long, "a list of words has %zu bytes; at most %d", bytes, Automaton::max_states - 1);
    if (list.empty()) return Automaton{};
    t.classes = classes;
    const auto k = static_cast<std::size_t>(classes);
    t.next = heap.take<std::uint16_t>((bytes + 1) * k);
    t.label = heap.take<std::uint16_t>(bytes + 1);
    if (t.next == nullptr || t.label == nullptr) return full();
    std::fill_n(t.next, (bytes + 1) * k, dead);
    std::fill_n(t.label, bytes + 1, std::uint16_t{0});
    t.states = 1;
    for (std::size_t i = 0; i < list.size(); i++) {
        std::size_t s = 0;
        for (const char c : list[i])
            for (const char e : encoded(c)) {
                std::uint16_t& to = t.next[s * k + t.byte_class[static_cast<unsigned char>(e)]];
                if (to == dead) to = static_cast<std::uint16_t>(t.states++);
                s = to;
            }
        if (t.label[s] == 0) t.label[s] = static_cast<std::uint16_t>(i + 1);
    }
    return minimal(t, heap, mark);
}

Result<Automaton> combine(const Automaton& a, const Automaton& b, LabelOf label_of, void* context, Heap& heap) {
    const std::size_t mark = heap.used();
    Table t;
    const auto ca = static_cast<std::size_t>(std::max(a.classes, 1)), cb = static_cast<std::size_t>(std::max(b.classes, 1));
    // Classes of the pair, as they occur.
    std::uint16_t pair_a[256], pair_b[256];
    int classes = 0;
    for (int byte = 0; byte < 256; byte++) {
        const std::uint16_t x = a.states == 0 ? std::uint16_t{0} : a.byte_class[byte], y = b.states == 0 ? std::uint16_t{0} : b.byte_class[byte];
        int c = 0;
        while (c < classes && (pair_a[c] != x || pair_b[c] != y)) c++;
        if (c == classes) pair_a[c] = x, pair_b[c] = y, classes++;
        t.byte_class[byte] = static_cast<std::uint8_t>(c);
    }
    t.classes = classes;
    const auto k = static_cast<std::size_t>(classes);
    // Minimizing takes about as much again.
    const std::size_t most = std::min<std::size_t>(Automaton::max_states, heap.left() / 2 / (k * 2 + 16));
    const std::size_t slots = power_of_two(2 * std::min<std::size_t>(most, static_cast<std::size_t>(a.states + 1) * static_cast<std::size_t>(b.states + 1)));
    auto* const pairs = heap.take<std::uint32_t>(most);
    auto* const table = heap.take<std::uint16_t>(slots);
    if (most == 0 || pairs == nullptr || table == nullptr) return full();
    std::fill_n(table, slots, dead);
    t.label = heap.take<std::uint16_t>(most);
    if (t.label == nullptr) return full();
    t.next = heap.take<std::uint16_t>(most * k);
    if (t.next == nullptr) return full();
    bool too_many = false;
    const auto find = [&](std::uint16_t x, std::uint16_t y) {
        const std::uint32_t pair = static_cast<std::uint32_t>(x) << 16 | y;
        std::size_t at = mixed(1, pair) & (slots - 1);
        while (table[at] != dead && pairs[table[at]] != pair) at = (at + 1) & (slots - 1);
        if (table[at] != dead) return table[at];
        if (static_cast<std::size_t>(t.states) == most) {
            too_many = true;
            return dead;
        }
        const auto s = static_cast<std::uint16_t>(t.states++);
        table[at] = s;
        pairs[s] = pair;
        t.label[s] = label_of(context, x == dead ? std::uint16_t{0} : a.label[x], y == dead ? std::uint16_t{0} : b.label[y]);
        return s;
    };
    find(a.states == 0 ? dead : std::uint16_t{0}, b.states == 0 ? dead : std::uint16_t{0});
    for (int s = 0; s < t.states && !too_many; s++) {
        const auto x = static_cast<std::uint16_t>(pairs[s] >> 16), y = static_cast<std::uint16_t>(pairs[s]);
        for (std::size_t c = 0; c < k; c++) {
            const std::uint16_t p = x == dead ? dead : a.next[x * ca + pair_a[c]], q = y == dead ? dead : b.next[y * cb + pair_b[c]];
            t.next[static_cast<std::size_t>(s) * k + c] = p == dead && q == dead ? dead : find(p, q);
        }
    }
    if (too_many) {
        if (most < Automaton::max_states) return full();
        return Error::make(Code::text_too_long, "the patterns combine to more than %d states", Automaton::max_states);
    }
    heap.release(heap.used() - (most - static_cast<std::size_t>(t.states)) * k * sizeof *t.next);
    return minimal(t, heap, mark);
}

Result<Automaton> intersection(const Automaton& a, const Automaton& b, Heap& heap) {
    return combine(a, b, [](void*, std::uint16_t x, std::uint16_t y) { return static_cast<std::uint16_t>(x != 0 && y != 0); }, nullptr, heap);
}

Result<Automaton> difference(const Automaton& a, const Automaton& b, Heap& heap) {
    return combine(a, b, [](void*, std::uint16_t x, std::uint16_t y) { return static_cast<std::uint16_t>(x != 0 && y == 0); }, nullptr, heap);
}

}  // namespace slmd::grammar
