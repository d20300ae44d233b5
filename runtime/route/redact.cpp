#include "route/redact.h"

#include <algorithm>
#include <cstdio>

#include "base/json.h"
#include "route/letters.h"

namespace slmd::route {
namespace {

// Appends to memory of a fixed size.
class Writer {
  public:
    explicit Writer(std::span<char> out) : out_(out) {}
    void put(std::string_view s) {
        if (s.size() > out_.size() - size_) full_ = true;
        if (full_) return;
        std::copy(s.begin(), s.end(), out_.begin() + static_cast<std::ptrdiff_t>(size_));
        size_ += s.size();
    }
    bool full() const { return full_; }
    std::string_view text() const { return {out_.data(), size_}; }

  private:
    std::span<char> out_;
    std::size_t size_ = 0;
    bool full_ = false;
};

}  // namespace

std::uint16_t Redactor::number_of(Kind kind, std::string_view value) {
    std::uint16_t last = 0;
    for (const Value& v : values()) {
        if (v.kind != kind) continue;
        if (text_of(v) == value) return v.number;
        last = std::max(last, v.number);
    }
    if (count_ == values_.size() || value.size() > text_.size() - used_ || last == UINT16_MAX) return 0;
    std::copy(value.begin(), value.end(), text_.begin() + static_cast<std::ptrdiff_t>(used_));
    values_[count_++] = {kind, static_cast<std::uint16_t>(last + 1), static_cast<std::uint32_t>(used_),
                         static_cast<std::uint32_t>(value.size())};
    used_ += value.size();
    return static_cast<std::uint16_t>(last + 1);
}

Result<std::string_view> Redactor::redact(std::string_view text, std::span<char> out) {
    const std::size_t used = used_, count = count_;
    const auto failed = [&](const Error& error) {
        used_ = used, count_ = count, found_ = 0;
        return error;
    };
    const auto found = find_secrets(text, terms_, findings_, own_);
    if (!found) return failed(found.error());
    found_ = found.value();
    Writer writer(out);
    std::size_t at = 0;
    for (const Finding& f : findings()) {
        const std::uint16_t number = number_of(f.kind, text.substr(f.begin, f.end - f.begin));
        if (number == 0)
            return failed(Error::make(Code::context_full,
                                      "the conversation has more than %zu secrets, or more than %zu bytes of them: "
                                      "nothing may leave; begin another one",
                                      values_.size(), text_.size()));
        char placeholder[24];
        const int n = std::snprintf(placeholder, sizeof placeholder, "[%s_%u]", name_of(f.kind), unsigned{number});
        writer.put(text.substr(at, f.begin - at));
        writer.put({placeholder, static_cast<std::size_t>(n)});
        at = f.end;
    }
    writer.put(text.substr(at));
    if (writer.full())
        return failed(
            Error::make(Code::context_full, "the text without its secrets is longer than %zu bytes", out.size()));
    return writer.text();
}

Result<void> Redactor::remember(Kind kind, std::uint16_t number, std::string_view value) {
    if (count_ == values_.size() || value.size() > text_.size() - used_)
        return Error::make(Code::context_full, "more than %zu secrets, or %zu bytes of them", values_.size(),
                           text_.size());
    std::copy(value.begin(), value.end(), text_.begin() + static_cast<std::ptrdiff_t>(used_));
    values_[count_++] = {kind, number, static_cast<std::uint32_t>(used_), static_cast<std::uint32_t>(value.size())};
    used_ += value.size();
    return {};
}

Result<std::string_view> Redactor::restore(std::string_view answer, std::span<char> out, bool json) const {
    Writer writer(out);
    for (std::size_t at = 0; at < answer.size();) {
        Kind kind{};
        unsigned number = 0;
        std::size_t end = placeholder_at(answer, at, &kind, &number);
        // Models leave the brackets out, when they write JSON above all.
        if (end == 0 && (at == 0 || (!is_word(answer[at - 1]) && answer[at - 1] != '['))) {
            end = bare_placeholder_at(answer, at, &kind, &number);
            if (at_or_0(answer, end) == ']') end = 0;
        }
        const auto value = std::find_if(values().begin(), values().end(), [&](const Value& v) {
            return end != 0 && v.kind == kind && v.number == number;
        });
        if (value != values().end()) {
            char escaped[6];
            for (const char& c : text_of(*value)) writer.put(json ? json_written(c, escaped) : std::string_view(&c, 1));
            at = end;
            continue;
        }
        writer.put(answer.substr(at++, 1));
    }
    if (writer.full())
        return Error::make(Code::context_full, "the answer with what was taken out is longer than %zu bytes",
                           out.size());
    return writer.text();
}

}  // namespace slmd::route
