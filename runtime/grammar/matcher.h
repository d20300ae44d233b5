// Follows a text byte by byte through a grammar: what may come next, whether it may end here, how it ends soonest.
// Every text that it has taken can be completed, or it would not have taken it.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/arena.h"
#include "base/result.h"
#include "grammar/grammar.h"
#include "grammar/source.h"

namespace slmd::grammar {

// Where the value, or the key, at `at` of a text that a matcher has taken ends.
std::size_t skip(std::string_view text, std::size_t at);

class Matcher {
  public:
    static constexpr int max_threads =
        72;  // alternatives that are followed at once (64 tools); later ones are given up
    static constexpr std::size_t max_frames = 8192;
    static constexpr std::size_t max_text = 16384;  // bytes
    static constexpr std::size_t max_keys = 16384;  // states of the keys of one object

    // Memory for one, from scratch.
    void lay_out(Arena& arena);
    // Begins anew. The grammar and the source, where values have to stand in one, must outlive this.
    void open(const Grammar& grammar, const Source* source = nullptr);

    // From here on a model writes: in strings that may be anything, no control character that has no short escape. It
    // would be meant as \u00e9, which is no form of ours, and all that \u00 leaves.
    void refuse_controls() { controls_ = false; }

    // Takes one byte; false, and nothing changes, when the grammar does not. What was taken since keep() can be given
    // back, last byte first.
    bool push(char byte);
    void pop();
    void keep();
    // All of them and keep(), or nothing.
    bool take(std::string_view bytes);
    // Whether take() would.
    bool would_take(std::string_view bytes);

    // May it end here? (Of a number, more digits may follow all the same.)
    bool accepting() const;
    // It ends here: nothing may follow.
    bool finished();
    // The bytes that may come next, in [256] bits.
    struct Bytes {
        std::uint64_t bits[4];
        void add(unsigned char b) { bits[b / 64] |= std::uint64_t{1} << b % 64; }
        bool has(unsigned char b) const { return (bits[b / 64] >> b % 64 & 1) != 0; }
    };
    Bytes next();
    // What must come next, whatever else: at most out.size() bytes of it. Nothing where it may end.
    std::size_t forced(std::span<char> out);
    // The shortest completion, or close to it. Returns its length; more than out.size(): it does not fit, or cannot be
    // looked at whole (4,096 bytes where one alternative is left, less where several are).
    std::size_t close(std::span<char> out);
    // At most so many bytes close it; where arrays or objects must differ, about so many.
    std::uint32_t close_bytes() const;
    // A string is being written, between two characters, that may contain anything, end here, and go on for at least so
    // many characters more.
    bool in_free_string(std::size_t characters) const;
    // A string or a key has just begun: nothing but its quote is written.
    bool begins_string() const;
    std::string_view text() const { return {text_, length_}; }

  private:
    enum class Kind : std::uint8_t { done, string, number, literal, array, object, text, begin };
    struct Frame {
        std::uint32_t parent;
        Kind kind;
        std::uint8_t phase;
        std::uint16_t depth;
        const void* rule;
        std::uint32_t begin;  // where the value begins in the text
        std::uint32_t item;   // of an array: where its item begins; of an object: where the key does
        union {
            struct {
                std::uint32_t characters;
                std::uint16_t state;
                Source::Part part;
            } string;
            NumberState number;
            struct {
                std::uint8_t which;  // 't', 'f', 'n'
                std::uint8_t at;
            } literal;
            struct {
                std::uint32_t count, matches[ArrayRule::max_contains];
                std::uint16_t node;
            } array;
            struct {
                ObjectRule::Set seen;
                std::uint32_t count;
                std::uint16_t key, label;
            } object;
            std::uint16_t state;  // of text
        };
    };
    struct Level {
        std::uint16_t first, count;  // threads
        std::uint16_t frames;        // in use before its own
    };
    static constexpr std::uint32_t none = UINT32_MAX;
    static constexpr std::size_t max_levels = 4608;
    static constexpr std::size_t thread_room = 16384;  // of all levels
    static constexpr int max_tries = 2048;             // bytes to find out that an item can differ

    std::uint32_t add(const Frame& frame);
    void thread(const Frame& frame);
    void advance(const Frame& frame, char c);
    void leave(const Frame& frame, char c, bool consumed);
    void begin(std::uint32_t parent, std::uint16_t node, char c, unsigned depth);
    void string_byte(const Frame& f, char c);
    void object_byte(const Frame& f, char c);
    void array_byte(const Frame& f, char c);
    void item(const Frame& array, char c);
    Bytes candidates(const Frame& frame) const;
    bool eligible(const ObjectRule& rule, const ObjectRule::Set& seen, std::uint32_t count, std::uint32_t label) const;
    bool can_begin_key(const Frame& object, std::uint16_t state, std::string_view written) const;
    bool other_fits(const ObjectRule& rule, const ObjectRule::Set& seen, std::uint32_t count) const;
    // Whether one of the keys that were written, quotes included, is so.
    template <class Is>
    bool any_key(const Frame& object, const Is& is) const;
    bool in_escape(const Frame& string) const;
    bool can_match(const Frame& string) const;
    bool follow_source(const Frame& frame, Frame& next, char c) const;
    template <class Is>
    bool any_item(const Frame& array, const Is& is) const;
    bool has_item(const Frame& array, std::string_view begun) const;
    bool is_left(const Frame& child, const Automaton& values, const std::uint8_t* completions,
                 std::uint16_t state) const;
    bool number_is_left(const Frame& number) const;
    std::uint32_t bytes_apart(const Frame& number, const Frame& array, std::uint32_t end) const;
    bool differs(const Frame& array, std::uint32_t end) const;
    int seen_items(const Frame& array, std::string_view prefix, const Node& of) const;
    const Frame* unique_array(const Frame& child) const;
    bool has_room(const Frame& frame, bool top) const;
    int may_repeat(const Frame& top) const;
    int all_may_repeat() const;
    bool complete_item(int depth);
    std::size_t push_close(std::size_t room);
    std::uint32_t cost(const Frame& frame) const;
    std::uint32_t key_cost(const Frame& object) const;

    const Grammar* grammar_ = nullptr;
    const Source* source_ = nullptr;
    Frame* frames_ = nullptr;                 // [max_frames]
    std::uint32_t* threads_ = nullptr;        // [thread_room]
    Level* levels_ = nullptr;                 // [max_levels]
    std::uint32_t* moved_ = nullptr;          // [max_frames]
    mutable std::uint16_t* queue_ = nullptr;  // [2 * max_keys]
    char* text_ = nullptr;                    // [max_text]
    std::uint32_t frame_count_ = 0, level_count_ = 0, length_ = 0, new_first_ = 0, new_count_ = 0;
    bool overflow_ = false, controls_ = true, trying_ = false;
};

}  // namespace slmd::grammar
