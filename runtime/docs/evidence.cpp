#include "docs/evidence.h"

#include <algorithm>

#include "docs/query.h"

namespace slmd::docs {
namespace {

bool same(std::string_view a, std::string_view b) {
    const std::size_t shorter = std::min(a.size(), b.size());
    if (shorter < 4) return same_letters(a, b);
    const std::size_t n = std::max<std::size_t>(4, shorter - 2);
    return same_letters(a.substr(0, n), b.substr(0, n)) && std::max(a.size(), b.size()) - n <= 4;
}

// The next word of text from `at` on; empty: none.
std::string_view next_word(std::string_view text, std::size_t& at) {
    while (at < text.size() && !in_word(text[at])) at++;
    const std::size_t begin = at;
    while (at < text.size() && in_word(text[at])) at++;
    return text.substr(begin, at - begin);
}

bool has(std::string_view text, std::string_view word) {
    for (std::size_t at = 0;;) {
        const std::string_view w = next_word(text, at);
        if (w.empty()) return false;
        if (same(w, word)) return true;
    }
}

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

std::size_t sentence_end(std::string_view text, std::size_t begin, std::size_t most) {
    std::size_t word = begin;
    for (std::size_t i = begin; i < text.size(); i++) {
        if (i - begin >= most) {
            if (word != begin) return word;
            while (i > begin + 1 && (text[i] & 0xC0) == 0x80) i--;
            return i;
        }
        if (text[i] == '\n') return i + 1;
        if (!is_space(text[i])) continue;
        word = i + 1;
        const bool ends = i > begin && (text[i - 1] == '.' || text[i - 1] == '!' || text[i - 1] == '?');
        const char next = i + 1 < text.size() ? text[i + 1] : 'A';
        if (ends && !(next >= 'a' && next <= 'z')) return i + 1;
    }
    return text.size();
}

}  // namespace

Evidence find_evidence(std::span<const Word> words, std::span<const Hit> hits, std::size_t most) {
    Evidence best{};
    float all = 0;
    for (const Word& w : words) all += w.weight;
    for (std::size_t h = 0; h < hits.size() && all > 0; h++) {
        const std::string_view text = hits[h].text;
        for (std::size_t begin = 0, end; begin < text.size(); begin = end) {
            end = sentence_end(text, begin, most);
            const std::string_view sentence = text.substr(begin, end - begin);
            float sum = 0;
            for (const Word& w : words)
                if (w.weight > 0)
                    sum += has(sentence, w.text) ? w.weight : has(hits[h].heading, w.text) ? w.weight / 2 : 0;
            if (sum / all > best.coverage) best = {h, begin, end, sum / all};
        }
    }
    const std::string_view text = hits.empty() ? "" : hits[best.hit].text;
    while (best.end > best.begin && is_space(text[best.end - 1])) best.end--;
    while (best.begin < best.end && is_space(text[best.begin])) best.begin++;
    return best;
}

bool repeats(std::string_view answer, std::string_view question) {
    for (std::size_t at = 0;;) {
        const std::string_view w = next_word(answer, at);
        if (w.empty()) return true;
        if (!has(question, w)) return false;
    }
}

Stand find_answer(std::string_view answer, std::string_view sentence) {
    while (!answer.empty() && is_space(answer.front())) answer.remove_prefix(1);
    while (!answer.empty() && is_space(answer.back())) answer.remove_suffix(1);
    const std::size_t at = answer.empty() ? std::string_view::npos : sentence.find(answer);
    if (at == std::string_view::npos || std::none_of(answer.begin(), answer.end(), in_word))
        return {Stand::npos, Stand::npos};
    std::size_t begin = at, end = at + answer.size();
    while (begin > 0 && in_word(sentence[begin]) && in_word(sentence[begin - 1])) begin--;
    while (end < sentence.size() && in_word(sentence[end - 1]) && in_word(sentence[end])) end++;
    return {begin, end};
}

}  // namespace slmd::docs
