#include "docs/query.h"

#include <algorithm>

namespace slmd::docs {
void make_query(std::string_view question, Query& q) {
    q.count = q.size = 0;
    const auto put = [&](std::string_view s) {
        std::copy(s.begin(), s.end(), q.text + q.size);
        q.size += s.size();
    };
    for (std::size_t at = 0; at < question.size() && q.count < Query::max_words;) {
        if (!in_word(question[at])) {
            at++;
            continue;
        }
        std::size_t end = at;
        while (end < question.size() && in_word(question[end])) end++;
        std::size_t most = std::min(end, at + Query::word_bytes);
        while (most > at && most < end && (question[most] & 0xC0) == 0x80) most--;
        const std::string_view word = question.substr(at, most - at);
        at = end;
        if (std::any_of(q.words, q.words + q.count, [&](std::string_view w) { return same_letters(w, word); }))
            continue;
        if (q.count > 0) put(" OR ");
        put("\""), put(word), put("\"");
        q.words[q.count++] = word;
    }
}

}  // namespace slmd::docs
