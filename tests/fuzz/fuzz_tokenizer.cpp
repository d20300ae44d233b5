// LINK: tests_text slmd_text
// A tokenizer section with damage, and a text: open() refuses, or encode() stays in bounds. The input is a sound
// section's damage rather than a section: byte 0 chooses the section, byte 1 says how many 4-byte values are
// overwritten (3 bytes where, 4 bytes what), the rest is the text.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "tests/text/fixtures.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace slmd;
    static const std::vector<std::byte> sections[] = {pack::build_tokenizer(tests::small_bpe("smollm")).value(),
                                                      pack::build_tokenizer(tests::small_bpe("llama-bpe")).value(),
                                                      pack::build_tokenizer(tests::small_sentencepiece()).value(),
                                                      pack::build_tokenizer(tests::small_bpe("gpt-2")).value(),
                                                      pack::build_tokenizer(tests::small_wordpiece()).value()};
    ByteReader in(std::as_bytes(std::span(data, size)));
    const auto& whole = sections[in.get<std::uint8_t>() % 5];
    const std::unique_ptr<std::byte[]> copy(new std::byte[whole.size()]);  // ends where its memory ends
    std::memcpy(copy.get(), whole.data(), whole.size());
    for (int n = in.get<std::uint8_t>(); n > 0 && in.left() >= 7; --n) {
        const std::size_t low = in.get<std::uint16_t>(),
                          at = (low | static_cast<std::size_t>(in.get<std::uint8_t>()) << 16) % (whole.size() - 3);
        const auto value = in.get<std::uint32_t>();
        std::memcpy(copy.get() + at, &value, 4);
    }
    const auto opened = text::Tokenizer::open({copy.get(), whole.size()});
    if (!opened) return 0;
    const text::Tokenizer& t = opened.value();

    const std::string_view text = in.text(in.left());
    const auto third = static_cast<std::uint32_t>(text.size() / 3);
    const text::Trusted trusted[] = {{0, third}, {2 * third, 0xFFFFFFFF}};
    std::vector<std::int32_t> ids(text.size() + 4);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(text.size()));
    const auto n = t.encode(text, trusted, true, ids, scratch);
    for (std::size_t i = 0; n && i < n.value(); ++i) {
        if (ids[i] < 0 || ids[i] >= t.vocab()) std::abort();
        (void)t.piece(ids[i], i % 2);
        (void)t.is_end(ids[i]);
    }
    if (const auto fitted = t.encode_fitting(text, std::span(ids).first(3), scratch);
        fitted && fitted.value().tokens > 3)
        std::abort();
    (void)t.find(text.substr(0, 10));
    return 0;
}
