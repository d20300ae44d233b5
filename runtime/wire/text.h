// Bounded text: a line under construction.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/utf8.h"

namespace slmd::wire {

// A line is built here and then sent whole. What does not fit is dropped and full() says so: lines are sized so that it
// cannot happen with valid input.
class Line {
  public:
    static constexpr std::size_t capacity = 2048;

    void clear() { size_ = 0, full_ = false; }
    Line& put(char c) {
        if (size_ < capacity)
            text_[size_++] = c;
        else
            full_ = true;
        return *this;
    }
    Line& put(std::string_view text) {
        for (const char c : text) put(c);
        return *this;
    }
    Line& number(long long value);
    // Shortest of at most `digits` decimals: 0.7, 12, 0.125.
    Line& real(double value, int digits = 6);
    // Inside a quoted string of the AT grammar: quote, backslash and control characters as escapes.
    Line& at_escaped(std::string_view text);
    // Inside a JSON string (RFC 8259); text must be UTF-8.
    Line& json_escaped(std::string_view text);
    Line& at_string(std::string_view text) { return put('"').at_escaped(text).put('"'); }
    Line& json_string(std::string_view text) { return put('"').json_escaped(text).put('"'); }
    // RFC 4648, with padding.
    Line& base64(std::span<const std::int8_t> bytes);
    // 4 upper-case hexadecimal digits.
    Line& hex4(std::uint16_t value);

    std::string_view view() const { return {text_, size_}; }
    std::size_t size() const { return size_; }
    bool full() const { return full_; }

  private:
    // control: what stands before the two hex digits of a control character
    Line& escaped(std::string_view text, const char* control);
    std::size_t size_ = 0;
    bool full_ = false;
    char text_[capacity];
};

// A vector in bytes: each times scale is the number again, within half a scale.
float scale_of(std::span<const float> vector);
std::size_t quantize(std::span<const float> part, float scale, std::int8_t* out);

// How many bytes of text, in whole code points, take at most `room` bytes when escaped.
std::size_t fit_at(std::string_view text, std::size_t room);
std::size_t fit_json(std::string_view text, std::size_t room);

}  // namespace slmd::wire
