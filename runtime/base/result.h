// Result<T>: a value, or an error whose code is the number that the wire reports.
#pragma once
#include <cstdarg>
#include <cstdio>
#include <string_view>
#include <utility>
#include <variant>

namespace slmd {

// One error space for the library, `+CME ERROR: n` and JSON-RPC. Below 256: 3GPP TS 27.007; from 256: ours.
enum class Code : int {
    not_allowed = 3,    // wrong state
    not_supported = 4,  // unknown command or form
    memory_full = 20,
    invalid_index = 21,
    not_found = 22,
    storage_failure = 23,  // a file could not be read or written
    text_too_long = 24,
    invalid_characters = 25,  // not UTF-8, or control characters
    incorrect_parameters = 50,
    disabled = 51,
    aborted = 52,        // cancelled by the user
    unknown = 100,       // a bug of ours
    check_failed = 256,  // CRC missing or wrong
    line_too_long = 257,
    no_model = 258,
    model_format = 259,     // model rejected: format or version
    model_integrity = 260,  // model rejected: checksum, hash or signature
    model_memory = 261,     // not enough memory for the model
    busy = 262,             // queue full
    context_full = 263,
    deadline = 264,
    thermal = 265,
    device_io = 266,
    client_too_slow = 267,
    not_permitted = 268,  // not on this port
    shutting_down = 269,
};

// The standard text of a code, as `AT+CMEE=2` shows it.
const char* code_text(Code code);

struct [[nodiscard]] Error {
    Code code;
    char text[232];  // what was wrong, where, and what to do; always terminated

    [[gnu::format(printf, 2, 3)]] static Error make(Code code, const char* format, ...) {
        Error e{code, {}};
        va_list args;
        va_start(args, format);
        std::vsnprintf(e.text, sizeof e.text, format, args);
        va_end(args);
        return e;
    }
    const char* what() const { return text; }
};

template <class T>
class [[nodiscard]] Result {
  public:
    Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : v_(std::in_place_index<1>, error) {}
    explicit operator bool() const { return v_.index() == 0; }
    T& value() & { return *std::get_if<0>(&v_); }
    const T& value() const& { return *std::get_if<0>(&v_); }
    T&& value() && { return std::move(*std::get_if<0>(&v_)); }
    T* operator->() { return std::get_if<0>(&v_); }
    T& operator*() & { return value(); }
    const Error& error() const { return *std::get_if<1>(&v_); }

  private:
    std::variant<T, Error> v_;
};

template <>
class [[nodiscard]] Result<void> {
  public:
    Result() : failed_(false), error_{} {}
    Result(Error error) : failed_(true), error_(error) {}
    explicit operator bool() const { return !failed_; }
    void value() const {}
    const Error& error() const { return error_; }

  private:
    bool failed_;
    Error error_;
};

}  // namespace slmd

// TRY(expression): the value, or return its error from the enclosing function. One may stand within another.
#define TRY(...) SLMD_TRY_COUNTED(__COUNTER__, __VA_ARGS__)
#define SLMD_TRY_COUNTED(n, ...) SLMD_TRY_NUMBERED(n, __VA_ARGS__)
#define SLMD_TRY_NUMBERED(n, ...) SLMD_TRY_NAMED(try_result_##n##_, __VA_ARGS__)
#define SLMD_TRY_NAMED(name, ...)       \
    __extension__({                     \
        auto name = (__VA_ARGS__);      \
        if (!name) return name.error(); \
        std::move(name).value();        \
    })
