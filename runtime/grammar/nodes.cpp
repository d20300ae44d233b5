#include "grammar/nodes.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace slmd::grammar {
namespace {

template <class T>
Result<T*> taken(Heap& heap, std::size_t n) {
    T* const p = heap.take<T>(n);
    if (p == nullptr) return full();
    return p;
}

}  // namespace

std::uint32_t rest(const Grammar& g, const ObjectRule& r, const ObjectRule::Set& seen, std::uint32_t count) {
    ObjectRule::Set need;
    std::copy(std::begin(r.required), std::end(r.required), need);
    for (bool more = r.dependent_count > 0; more;) {
        more = false;
        for (int i = 0; i < r.dependent_count; i++) {
            const auto& d = r.dependents[i];
            const unsigned t = d.trigger - 1u;
            if (((seen[t / 64] | need[t / 64]) >> t % 64 & 1) == 0) continue;
            for (int w = 0; w < ObjectRule::words; w++) {
                more |= (d.needs[w] & ~need[w]) != 0;
                need[w] |= d.needs[w];
            }
        }
    }
    // Where the order counts, what comes before the last one that is there cannot come any more.
    std::uint32_t last = 0;
    for (int w = ObjectRule::words - 1; r.ordered && w >= 0 && last == 0; w--)
        if (seen[w] != 0) last = static_cast<std::uint32_t>(w * 64 + 64 - __builtin_clzll(seen[w]));
    std::uint32_t cost = 0, n = count;
    const auto member = [&](std::uint32_t label) { return r.name_bytes[label] + 4u + g.nodes[r.nodes[label]].cost; };
    ObjectRule::Set taken;
    for (int w = 0; w < ObjectRule::words; w++) {
        std::uint64_t open = need[w] & ~seen[w];
        if ((open & ~r.allowed[w]) != 0) return never;
        if (open != 0 && static_cast<std::uint32_t>(w * 64 + __builtin_ctzll(open) + 1) < last) return never;
        taken[w] = seen[w] | open;
        for (; open != 0; open &= open - 1, n++)
            cost += member(static_cast<std::uint32_t>(w * 64 + __builtin_ctzll(open) + 1));
    }
    if (n > r.max) return never;
    if (n >= r.min) return std::min(cost, never);
    // More than are needed, so that there are enough: those that need no others.
    for (std::uint32_t label = last + 1; label <= static_cast<std::uint32_t>(r.named) && n < r.min; label++) {
        const std::uint32_t i = label - 1;
        if ((taken[i / 64] >> i % 64 & 1) != 0 || (r.allowed[i / 64] >> i % 64 & 1) == 0) continue;
        bool needs = false;
        for (int k = 0; k < r.dependent_count && !needs; k++)
            if (r.dependents[k].trigger == label)
                for (int w = 0; w < ObjectRule::words; w++) needs |= (r.dependents[k].needs[w] & ~taken[w]) != 0;
        if (needs) continue;
        cost += member(label);
        n++;
    }
    if (n >= r.min) return std::min(cost, never);
    if (!r.other) return never;
    std::uint32_t named = 0;
    for (const std::uint64_t w : seen) named += static_cast<std::uint32_t>(__builtin_popcountll(w));
    if (r.other_count < never && r.min - n > r.other_count - std::min(r.other_count, count - named)) return never;
    // Each other name is longer than the one before where they must differ.
    const std::uint64_t others =
        static_cast<std::uint64_t>(r.min - n) * (r.other_bytes + 6u + g.nodes[r.other_node].cost);
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(cost + others, never));
}

std::uint32_t rest(const Grammar& g, const ArrayRule& r, std::uint32_t count, const std::uint32_t* matches) {
    // Of few values there are not enough that differ.
    if (r.unique && r.prefix == 0 && r.contains_count == 0 && g.nodes[r.nodes[0]].values < 255 &&
        r.min > static_cast<std::uint32_t>(g.nodes[r.nodes[0]].values))
        return never;
    std::uint32_t m[ArrayRule::max_contains]{};
    const unsigned all = (1u << r.contains_count) - 1;
    for (int c = 0; c < r.contains_count; c++) m[c] = matches[c];
    std::uint64_t cost = 0;
    for (std::uint32_t i = count;; i++) {
        unsigned needed = 0;
        for (int c = 0; c < r.contains_count; c++) {
            if (m[c] > r.contains[c].max) return never;
            if (m[c] < r.contains[c].min) needed |= 1u << c;
        }
        if (i >= r.min && needed == 0) return static_cast<std::uint32_t>(std::min<std::uint64_t>(cost, never));
        if (i >= r.max || i - count > 4096) return never;
        // The choice that serves most, then the cheapest.
        int best = -1, best_served = -1;
        std::uint32_t best_cost = never;
        for (unsigned choice = 0; choice <= all; choice++) {
            bool fits = true;
            for (int c = 0; c < r.contains_count; c++) fits &= (choice >> c & 1) == 0 || m[c] < r.contains[c].max;
            std::uint32_t price = g.nodes[r.node(i, choice)].cost;
            if (r.unique && price < never) price = std::max(price + 3, g.nodes[r.node(i, choice)].unequal);
            const int served = __builtin_popcount(choice & needed);
            if (!fits || price >= never || served < best_served || (served == best_served && price >= best_cost))
                continue;
            best = static_cast<int>(choice), best_served = served, best_cost = price;
        }
        if (best < 0) return never;
        cost += best_cost + 1;
        for (int c = 0; c < r.contains_count; c++) m[c] += static_cast<unsigned>(best) >> c & 1;
        // Alike from here on: the others cost the same.
        if (needed == 0 && i >= static_cast<std::uint32_t>(r.prefix) && i + 1 < r.min && r.contains_count == 0) {
            if (r.min > r.max) return never;
            cost += static_cast<std::uint64_t>(r.min - i - 1) * (best_cost + 1);
            return static_cast<std::uint32_t>(std::min<std::uint64_t>(cost, never));
        }
    }
}

// The shortest value of each node, from the leaves up until nothing gets cheaper; what never gets a cost has no value.
Result<void> price_values(std::span<Node> nodes, Heap& heap) {
    Grammar g;
    bool more = true;
    for (std::size_t round = 0; more; round++) {
        more = false;
        g.nodes = nodes;
        for (std::size_t i = 0; i < nodes.size(); i++) {
            Node& n = nodes[i];
            std::uint32_t cost = n.cost;
            int depth = n.depth;
            const auto offer = [&](std::uint32_t c, int d) {
                if (c < cost) cost = c, depth = d;
            };
            if (n.null || n.truth) offer(4, 0);
            if (n.falsity) offer(5, 0);
            for (const StringRule* r : n.strings) offer(r->cost, 0);
            for (const NumberRule* r : n.numbers) offer(r->cost, 0);
            for (const ArrayRule* rule : n.arrays) {
                auto* const r = const_cast<ArrayRule*>(rule);  // being made
                const std::uint32_t none[ArrayRule::max_contains]{};
                const std::uint32_t items = rest(g, *r, 0, none);
                if (items >= never) continue;
                const std::uint32_t c = items + (items > 0 ? 1 : 2);
                if (c >= r->cost) continue;
                r->cost = c;
                r->depth = 1;
                for (std::uint32_t k = 0; items > 0 && k <= static_cast<std::uint32_t>(r->prefix); k++)
                    for (unsigned choice = 0; choice < 1u << r->contains_count; choice++)
                        if (const Node& item = g.nodes[r->node(k, choice)];
                            item.cost < never && k < std::max(r->min, 1u))
                            r->depth = std::max(r->depth, 1 + item.depth);
                offer(c, r->depth);
            }
            for (const ObjectRule* rule : n.objects) {
                auto* const r = const_cast<ObjectRule*>(rule);
                for (int label = 1; label <= r->labels; label++) {
                    const std::uint32_t value = g.nodes[r->nodes[label]].cost;
                    if (value >= never) continue;
                    if (label <= r->named) {
                        r->allowed[(label - 1) / 64] |= std::uint64_t{1} << (label - 1) % 64;
                    } else if (!r->other || value < g.nodes[r->other_node].cost) {
                        r->other = true;
                        r->other_node = r->nodes[label];
                    }
                }
                const ObjectRule::Set none{};
                const std::uint32_t members = rest(g, *r, none, 0);
                if (members >= never) continue;
                const std::uint32_t c = members + (members > 0 ? 1 : 2);
                if (c >= r->cost) continue;
                r->cost = c;
                r->depth = 1;
                for (int label = 1; label <= r->named; label++)
                    if ((r->required[(label - 1) / 64] >> (label - 1) % 64 & 1) != 0)
                        r->depth = std::max(r->depth, 1 + g.nodes[r->nodes[label]].depth);
                offer(c, r->depth);
            }
            if (cost < n.cost) n.cost = cost, n.depth = depth, more = true;
        }
        if (round > nodes.size() + 8) break;
    }
    // Rules without a value are never begun; of the keys of the others it is said what can follow.
    for (std::size_t i = 0; i < nodes.size(); i++) {
        Node& n = nodes[i];
        const auto drop = [](auto& rules) {
            using Rule = std::remove_reference_t<decltype(*rules.data())>;
            auto* const list = const_cast<std::remove_const_t<Rule>*>(rules.data());
            const auto end = std::remove_if(list, list + rules.size(), [](auto* r) { return r->cost >= never; });
            rules = rules.first(static_cast<std::size_t>(end - list));
        };
        drop(n.arrays);
        drop(n.objects);
        for (const ObjectRule* rule : n.objects) {
            auto* const r = const_cast<ObjectRule*>(rule);
            const auto states = static_cast<std::size_t>(r->keys.states);
            auto* const reach = TRY(taken<ObjectRule::Set>(heap, states));
            auto* const other = TRY(taken<std::uint16_t>(heap, states));
            std::memset(reach, 0, states * sizeof *reach);
            std::fill_n(other, states, Automaton::dead);
            for (std::size_t s = 0; s < states; s++) {
                const std::uint16_t l = r->keys.label[s];
                if (l == 0 || nodes[r->nodes[l]].cost >= never) continue;
                if (l <= r->named)
                    reach[s][(l - 1) / 64] |= std::uint64_t{1} << (l - 1) % 64;
                else
                    other[s] = static_cast<std::uint16_t>(std::min(nodes[r->nodes[l]].cost, Automaton::dead - 1u));
            }
            for (bool again = true; again;) {
                again = false;
                for (std::size_t s = states; s-- > 0;)
                    for (int c = 0; c < r->keys.classes; c++) {
                        const std::uint16_t t =
                            r->keys.next[s * static_cast<std::size_t>(r->keys.classes) + static_cast<std::size_t>(c)];
                        if (t == Automaton::dead) continue;
                        for (int w = 0; w < ObjectRule::words; w++) {
                            again |= (reach[t][w] & ~reach[s][w]) != 0;
                            reach[s][w] |= reach[t][w];
                        }
                        if (other[t] + 1u < other[s]) other[s] = static_cast<std::uint16_t>(other[t] + 1), again = true;
                    }
            }
            r->reach = reach;
            r->to_other = other;
        }
    }
    return {};
}

// How many texts follow each state, 255: or more. Returns how many there are.
int count_words(const Automaton& a, std::uint8_t* completions) {
    std::memset(completions, 0, static_cast<std::size_t>(a.states));
    for (bool more = true; more;) {
        more = false;
        for (int s = a.states - 1; s >= 0; s--) {
            int sum = a.label[s] != 0;
            for (int b = 0; b < 256 && sum < 255; b++)
                if (const std::uint16_t t = a.step(static_cast<std::uint16_t>(s), static_cast<unsigned char>(b));
                    t != Automaton::dead)
                    sum += completions[t];
            sum = std::min(sum, 255);
            more |= sum != completions[s];
            completions[s] = static_cast<std::uint8_t>(sum);
        }
    }
    return a.states == 0 ? 0 : static_cast<int>(completions[0]);
}

// How many values nodes have that are items of arrays whose items must differ.
Result<void> count_values(std::span<Node> nodes, Heap& heap, Heap& scratch) {
    for (std::size_t i = 0; i < nodes.size(); i++) nodes[i].values = 255;
    for (std::size_t i = 0; i < nodes.size(); i++)
        for (const ArrayRule* r : nodes[i].arrays) {
            if (!r->unique) continue;
            bool few = false;
            for (int row = 0; row <= r->prefix; row++)
                for (unsigned choice = 0; choice < 1u << r->contains_count; choice++) {
                    Node& n = nodes[r->node(static_cast<std::uint32_t>(row), choice)];
                    if (!n.arrays.empty() || !n.objects.empty()) continue;
                    int values = n.null + n.truth + n.falsity;
                    n.unequal = 5;
                    const auto longest = [&](const Automaton& a, std::uint32_t quotes) -> Result<void> {
                        const std::size_t mark = scratch.used();
                        auto* const bytes = scratch.take<std::uint16_t>(static_cast<std::size_t>(a.states));
                        if (bytes == nullptr) return full();
                        std::fill_n(bytes, a.states, std::uint16_t{0});
                        for (bool more = true; more;) {
                            more = false;
                            for (int s = a.states - 1; s >= 0; s--)
                                for (int b = 0; b < 256; b++)
                                    if (const std::uint16_t t =
                                            a.step(static_cast<std::uint16_t>(s), static_cast<unsigned char>(b));
                                        t != Automaton::dead && bytes[t] + 1 > bytes[s])
                                        bytes[s] = static_cast<std::uint16_t>(bytes[t] + 1), more = true;
                        }
                        n.unequal = std::max(n.unequal, bytes[0] + quotes);
                        scratch.release(mark);
                        return {};
                    };
                    for (const StringRule* rule : n.strings) {
                        if (rule->from_source)
                            return Error::make(Code::not_supported,
                                               "schema: uniqueItems cannot be together with \"from\"");
                        if (rule->any && rule->max == 0) {
                            values++;
                            continue;
                        }
                        if (rule->any) {
                            values = 255;
                            break;
                        }
                        auto* const completions =
                            TRY(taken<std::uint8_t>(heap, static_cast<std::size_t>(rule->content.states)));
                        const int words = count_words(rule->content, completions);
                        values += words;
                        if (words < 255) TRY(longest(rule->content, 2));
                        const_cast<StringRule*>(rule)->completions = completions;
                    }
                    for (const NumberRule* rule : n.numbers) {
                        if (!rule->listed) {
                            values = 255;
                            if (!rule->free) n.unequal = std::max(n.unequal, NumberRule::longest);
                            break;
                        }
                        auto* const completions =
                            TRY(taken<std::uint8_t>(heap, static_cast<std::size_t>(rule->words.states)));
                        const int words = count_words(rule->words, completions);
                        values += words;
                        if (words < 255) TRY(longest(rule->words, 0));
                        const_cast<NumberRule*>(rule)->completions = completions;
                    }
                    n.values = std::min(values, 255);
                    few |= n.values < 255 && n.values > 0;
                }
            if (few && (r->contains_count > 0 || (r->prefix > 0 && r->min > 1)))
                return Error::make(
                    Code::not_supported,
                    "schema: uniqueItems of few values cannot be together with contains, or with prefixItems "
                    "and minItems");
        }
    return {};
}

Result<bool> count_nested(std::span<Node> nodes, Heap& scratch) {
    bool any = false;
    for (const Node& n : nodes)
        for (const ArrayRule* r : n.arrays)
            for (int i = 0; r->unique && i < (r->prefix + 1) << r->contains_count; i++)
                any |= nodes[r->nodes[i]].nested();
    if (!any) return false;
    const auto words_of = [&](const Automaton& a) -> Result<int> {
        const std::size_t mark = scratch.used();
        auto* const completions = TRY(taken<std::uint8_t>(scratch, static_cast<std::size_t>(a.states)));
        const int words = count_words(a, completions);
        scratch.release(mark);
        return words;
    };
    for (Node& n : nodes) {
        int most = 0;
        for (const StringRule* r : n.strings)
            most = std::max(most, r->from_source ? 0 : !r->any ? TRY(words_of(r->content)) : r->max > 0 ? 255 : 1);
        int numbers = 0;
        for (const NumberRule* r : n.numbers)
            numbers = std::max(numbers, r->listed ? TRY(words_of(r->words)) : r->free ? 255 : 1);
        n.at_least = static_cast<std::uint8_t>(std::min(255, most + numbers + n.null + n.truth + n.falsity));
    }
    for (bool more = true; more;) {
        more = false;
        for (Node& n : nodes) {
            int most = 0;
            for (const ArrayRule* r : n.arrays) {
                const Node& item = nodes[r->nodes[0]];
                if (!r->unique && r->grows() && item.cost < never) most = 255;
                int lists = 1;
                for (std::uint32_t i = 0; i < r->min && lists < 255 && !r->unique && r->prefix + r->contains_count == 0;
                     i++)
                    lists = item.at_least < 2 ? lists : std::min(255, lists * item.at_least);
                most = std::max(most, lists);
            }
            for (const ObjectRule* r : n.objects) {
                if (r->other && r->other_count == never && r->max == never && nodes[r->other_node].cost < never)
                    most = 255;
                int sets = 1;
                for (std::uint32_t label = 1; label <= static_cast<std::uint32_t>(r->named); label++)
                    if (has_bit(r->required, label))
                        sets = std::min(255, sets * std::max<int>(1, nodes[r->nodes[label]].at_least));
                most = std::max(most, sets);
            }
            if (most > n.at_least) n.at_least = static_cast<std::uint8_t>(most), more = true;
        }
    }
    // What is looked for among few is found as long as there are not too many to look at.
    constexpr std::uint32_t looked_at = 64;
    for (const Node& n : nodes)
        for (const ArrayRule* r : n.arrays)
            for (int i = 0; r->unique && i < (r->prefix + 1) << r->contains_count; i++)
                if (const Node& item = nodes[r->nodes[i]];
                    item.nested() && !item.many() && r->min > std::min<std::uint32_t>(item.at_least, looked_at))
                    return Error::make(
                        Code::not_supported,
                        "schema: uniqueItems and minItems %u where there may be too few different arrays "
                        "or objects",
                        r->min);
    return true;
}

}  // namespace slmd::grammar
