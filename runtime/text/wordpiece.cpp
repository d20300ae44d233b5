#include "text/wordpiece.h"

#include <algorithm>

#include "base/utf8.h"
#include "text/unicode.h"

namespace slmd::text {
namespace {

constexpr std::size_t longest_character = 4;  // bytes
constexpr std::uint32_t hangul_first = 0xAC00, hangul_count = 11172;

const WordPieceHeader& tables(const View& v) {
    return *reinterpret_cast<const WordPieceHeader*>(v.base + sizeof(TokenizerHeader));
}

std::size_t write_utf8(std::uint32_t c, char* out) {
    const auto tail = [&](int shift) { return static_cast<char>(0x80 | (c >> shift & 0x3F)); };
    if (c < 0x80) return out[0] = static_cast<char>(c), 1;
    if (c < 0x800) return out[0] = static_cast<char>(0xC0 | c >> 6), out[1] = tail(0), 2;
    if (c < 0x10000) return out[0] = static_cast<char>(0xE0 | c >> 12), out[1] = tail(6), out[2] = tail(0), 3;
    return out[0] = static_cast<char>(0xF0 | c >> 18), out[1] = tail(12), out[2] = tail(6), out[3] = tail(0), 4;
}

// The word that is being read. Its pieces are looked up where it stands: what comes before one that continues it is
// known already, and ## is written over that.
class Word {
  public:
    Word(const View& view, Out& out) : v_(view), out_(out) {}

    void add(std::uint32_t code) {
        if (count_ < word_characters) size_ += write_utf8(code, text_ + mark + size_);
        count_++;
    }
    void add_alone(std::uint32_t code) {
        end();
        add(code);
        end();
    }
    void end() {
        if (count_ > 0) put_pieces();
        count_ = 0;
        size_ = 0;
    }

  private:
    static constexpr std::size_t mark = 2;  // bytes of ##

    // Longest first, from the left; all of them or <unk>.
    void put_pieces() {
        std::int32_t ids[word_characters];
        std::size_t n = 0;
        bool known = count_ <= word_characters;
        for (std::size_t at = 0; known && at < size_;) {
            char* begin = text_ + mark + at;
            if (at > 0) *--begin = '#', *--begin = '#';
            std::size_t end = size_;
            std::uint32_t id = none;
            for (; end > at; end--) {
                if (end < size_ && (text_[mark + end] & 0xC0) == 0x80) continue;  // within a character
                id = v_.word({begin, text_ + mark + end});
                if (id != none) break;
            }
            known = id != none;
            if (known) ids[n++] = static_cast<std::int32_t>(id);
            at = end;
        }
        if (!known) return out_.put(static_cast<std::uint32_t>(v_.h.unk));
        for (std::size_t i = 0; i < n; i++) out_.put(static_cast<std::uint32_t>(ids[i]));
    }

    const View& v_;
    Out& out_;
    std::size_t size_ = 0;     // bytes
    std::uint32_t count_ = 0;  // characters, those that are not kept too
    char text_[mark + word_characters * longest_character];
};

}  // namespace

Result<void> check_wordpiece(const View& v) {
    const auto bad = [](const char* what) {
        return Error::make(Code::model_format, "tokenizer section: %s; pack the model again", what);
    };
    constexpr std::size_t first_table = sizeof(TokenizerHeader) + sizeof(WordPieceHeader);
    if (v.h.size < first_table) return bad("too short for WordPiece");
    const WordPieceHeader& t = tables(v);
    const auto fits = [&](const Table& table, std::uint64_t width) {
        return table.count <= max_char_ranges && table.offset % 8 == 0 && table.offset >= first_table &&
               table.offset + width * table.count <= v.h.size;
    };
    if (!fits(t.ranges, sizeof(CharRange)) || !fits(t.sequences, 4)) return bad("a table of characters lies outside");
    if (v.h.unk < 0 || v.h.bos < 0 || closing_token(v) == none)
        return bad("WordPiece needs a token for what is unknown, one before a text and one behind it");
    const auto* sequences = v.table<std::uint32_t>(t.sequences);
    for (std::uint32_t i = 0; i < t.sequences.count; i++)
        if (sequences[i] >> 2 > last_character || (sequences[i] & 3) % 2 != 0)
            return bad("a sequence of characters is none");
    const auto* ranges = v.table<CharRange>(t.ranges);
    if (t.ranges.count == 0 || ranges[0].first != 0) return bad("the characters do not begin with the first one");
    for (std::uint32_t i = 0; i < t.ranges.count; i++) {
        const CharRange& r = ranges[i];
        const std::uint32_t last = i + 1 < t.ranges.count ? ranges[i + 1].first - 1 : last_character;
        if (last < r.first || last > last_character) return bad("the characters are not in their order");
        if (static_cast<std::uint32_t>(r.action) >= char_actions) return bad("a character means what is not known");
        const std::int64_t delta = r.delta;
        if (r.action == CharAction::hangul && (r.first < hangul_first || last >= hangul_first + hangul_count))
            return bad("a syllable is none");
        if ((r.action == CharAction::word || r.action == CharAction::alone) &&
            (r.first + delta < 0 || last + delta > last_character))
            return bad("a character becomes none");
        if (r.action == CharAction::sequence && (delta < 0 || (delta >> 3) + (delta & 7) > t.sequences.count))
            return bad("a sequence of characters lies outside");
    }
    return {};
}

std::uint32_t closing_token(const View& v) {
    const auto* specials = v.table<std::uint32_t>(v.h.specials);
    const auto* end = specials + v.h.specials.count;
    const auto* found = std::find_if(specials, end, [&](std::uint32_t id) { return (v.type(id) & type_end) != 0; });
    return found == end ? none : *found;
}

void encode_wordpiece(const View& v, std::string_view text, Out& out) {
    const WordPieceHeader& t = tables(v);
    const auto* const ranges = v.table<CharRange>(t.ranges);
    const auto* const sequences = v.table<std::uint32_t>(t.sequences);
    Word word(v, out);
    for (std::size_t at = 0; at < text.size() && !out.full;) {
        const Char c = char_at(text, at);
        at += c.bytes;
        if (c.code > last_character)
            continue;  // a byte that is no character is dropped, as one that replaces it would be
        const CharRange& r =
            std::upper_bound(ranges, ranges + t.ranges.count, c.code,
                             [](std::uint32_t code, const CharRange& range) { return code < range.first; })[-1];
        const std::uint32_t code = c.code + static_cast<std::uint32_t>(r.delta);
        switch (r.action) {
            case CharAction::word: word.add(code); break;
            case CharAction::space: word.end(); break;
            case CharAction::alone: word.add_alone(code); break;
            case CharAction::dropped: break;
            case CharAction::sequence:
                for (std::int32_t i = 0; i < (r.delta & 7); i++) {
                    const std::uint32_t part = sequences[(r.delta >> 3) + i];
                    static_cast<CharAction>(part & 3) == CharAction::alone ? word.add_alone(part >> 2)
                                                                           : word.add(part >> 2);
                }
                break;
            case CharAction::hangul: {
                const std::uint32_t s = c.code - hangul_first;
                word.add(0x1100 + s / 588);
                word.add(0x1161 + s % 588 / 28);
                if (s % 28 != 0) word.add(0x11A7 + s % 28);
                break;
            }
        }
    }
    word.end();
}

}  // namespace slmd::text
