// Which passages a question is about.
#include <algorithm>
#include <cmath>

#include "docs/fusion.h"
#include "docs/query.h"
#include "docs/run.h"

namespace slmd::docs {

Result<std::size_t> Store::by_words(std::string_view text, std::span<std::int64_t> out) {
    if (text.empty()) return std::size_t{0};
    Run q(*this, sql_words);
    q.bind(text).bind(static_cast<std::int64_t>(out.size()));
    std::size_t n = 0;
    while (n < out.size() && TRY(q.step())) out[n++] = q.number(0);
    return n;
}

// Every vector is looked at: exact, and linear in how many there are (bench/results/ask.md).
Result<std::size_t> Store::by_meaning(std::int64_t encoder, std::span<const float> vector,
                                      std::span<std::int64_t> out) {
    struct Best {
        float score;
        std::int64_t passage;
        bool operator<(const Best& o) const { return score != o.score ? score > o.score : passage < o.passage; }
    } best[max_candidates];
    std::size_t n = 0;
    Run q(*this, sql_meaning);
    q.bind(encoder);
    while (TRY(q.step())) {
        const auto numbers = q.blob(2);
        if (numbers.size() != vector.size()) continue;
        float sum = 0;
        for (std::size_t i = 0; i < numbers.size(); i++) sum += vector[i] * static_cast<float>(numbers[i]);
        const Best b{sum * static_cast<float>(q.real(1)), q.number(0)};
        if (n == out.size() && !(b < best[n - 1])) continue;
        Best* const at = std::lower_bound(best, best + n, b);
        if (n < out.size()) n++;
        std::move_backward(at, best + n - 1, best + n);
        *at = b;
    }
    for (std::size_t i = 0; i < n; i++) out[i] = best[i].passage;
    return n;
}

// What a question asks with says nothing of what it is about. English and German; of other languages all words count.
static bool asks(std::string_view word) {
    static constexpr std::string_view words[] = {
        "a",   "an",     "and",     "are",     "as",   "at",   "be",    "been",  "by",   "can",  "could", "did",
        "do",  "does",   "for",     "from",    "had",  "has",  "have",  "how",   "i",    "in",   "into",  "is",
        "it",  "its",    "many",    "me",      "much", "my",   "of",    "on",    "or",   "s",    "tell",  "that",
        "the", "their",  "there",   "they",    "this", "to",   "was",   "were",  "what", "when", "where", "which",
        "who", "whom",   "whose",   "why",     "will", "with", "would", "you",   "your", "das",  "dem",   "den",
        "der", "des",    "die",     "ein",     "eine", "hat",  "ist",   "sind",  "und",  "von",  "wann",  "war",
        "was", "welche", "welcher", "welches", "wer",  "wie",  "wo",    "wurde", "zu"};
    return std::any_of(std::begin(words), std::end(words), [&](std::string_view w) { return same_letters(w, word); });
}

Result<void> Store::cover(std::string_view question, std::span<Hit> hits) {
    Query query;
    make_query(question, query);
    const auto passages = static_cast<float>(TRY(number(sql_total, 0)));
    float sums[max_hits] = {}, all = 0;
    static_assert(Query::max_words == std::size(decltype(words_){}));
    word_count_ = query.count;
    for (std::size_t w = 0; w < query.count; w++) {
        words_[w] = {query.words[w], 0};
        if (asks(query.words[w])) continue;
        char quoted[Query::word_bytes + 2];
        const std::size_t n = query.words[w].size();
        quoted[0] = quoted[n + 1] = '"';
        std::copy(query.words[w].begin(), query.words[w].end(), quoted + 1);
        const std::string_view word{quoted, n + 2};
        Run count(*this, sql_count_word);
        count.bind(word);
        TRY(count.step());
        const float weight = std::log(1 + passages / (1 + static_cast<float>(count.number(0))));
        all += words_[w].weight = weight;
        for (std::size_t i = 0; i < hits.size() && count.number(0) > 0; i++) {
            Run has(*this, sql_has_word);
            has.bind(word).bind(hits[i].passage);
            TRY(has.step());
            if (has.number(0) > 0) sums[i] += weight;
        }
    }
    for (std::size_t i = 0; i < hits.size(); i++) hits[i].coverage = all > 0 ? sums[i] / all : 0;
    return {};
}

Result<std::size_t> Store::search(std::string_view question, std::int64_t encoder, std::span<const float> vector, By by,
                                  std::span<Hit> out, std::span<char> text) {
    const auto find = [&]() -> Result<std::size_t> {
        Query query;
        make_query(question, query);
        std::int64_t words[max_candidates], meaning[max_candidates];
        const std::size_t w = by == By::meaning ? 0 : TRY(by_words({query.text, query.size}, words));
        const std::size_t m = by == By::words || vector.empty() ? 0 : TRY(by_meaning(encoder, vector, meaning));
        Ranked ranked[2 * max_candidates];
        Texts texts(text);
        std::size_t n = 0;
        for (const Ranked& r : fuse({words, w}, {meaning, m}, ranked)) {
            if (n == std::min(out.size(), max_hits)) break;
            Run q(*this, sql_passage);
            q.bind(r.passage);
            if (!TRY(q.step())) continue;  // of a document that is not whole yet
            out[n++] = {r.passage,
                        q.number(0),
                        q.number(1),
                        texts.keep(q.text(2)),
                        texts.keep(q.text(3)),
                        texts.keep(q.text(4)),
                        r.score,
                        r.first,
                        r.second,
                        0};
        }
        TRY(cover(question, out.first(n)));
        return n;
    };
    if (db_ == nullptr) TRY(open(path_, options_));
    auto found = find();
    if (!found && damaged_) {
        set_aside();
        (void)open(path_, options_);
        damaged_ = true;
    }
    return found;
}

}  // namespace slmd::docs
