// What is secret in a text is replaced by placeholders, "[EMAIL_1]", and put back into the answer. The same value has
// the same placeholder for as long as the conversation goes on.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "route/secrets.h"

namespace slmd::route {

class Redactor {
  public:
    static constexpr std::size_t max_findings = 256;  // in one text
    struct Value {
        Kind kind;
        std::uint16_t number;  // in its placeholder, from 1 in each kind
        std::uint32_t offset, size;
    };
    // Memory for the values of one conversation. terms: configured names and words. All must outlive it.
    Redactor(std::span<char> text, std::span<Value> values, std::span<const std::string_view> terms)
        : text_(text), values_(values), terms_(terms) {}
    void look_for(std::span<const std::string_view> terms, const OwnFinder& own) { terms_ = terms, own_ = own; }

    // The text as it may leave, in `out`. Errors: those of find_secrets(); context_full when a value or the text does
    // not fit. Whatever the error: nothing may leave, and the conversation is as it was before.
    Result<std::string_view> redact(std::string_view text, std::span<char> out);
    // Of the last text that was redacted, in order.
    std::span<const Finding> findings() const { return {findings_, found_}; }
    // An answer with the values in place of their placeholders; those that nobody gave stay. json: it is a JSON text,
    // in whose strings they stand. Errors: context_full.
    Result<std::string_view> restore(std::string_view answer, std::span<char> out, bool json = false) const;
    // Another conversation begins.
    void forget() { used_ = count_ = found_ = 0; }
    std::span<const Value> values() const { return values_.first(count_); }
    std::string_view text_of(const Value& v) const { return {text_.data() + v.offset, v.size}; }
    // A value that was taken out before, to be put back. Errors: context_full.
    Result<void> remember(Kind kind, std::uint16_t number, std::string_view value);

  private:
    // Its number; a new one when there is room. 0: there is none.
    std::uint16_t number_of(Kind kind, std::string_view value);

    std::span<char> text_;
    std::span<Value> values_;
    std::span<const std::string_view> terms_;
    OwnFinder own_;
    std::size_t used_ = 0, count_ = 0, found_ = 0;
    Finding findings_[max_findings];
};

}  // namespace slmd::route
