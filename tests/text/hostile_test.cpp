// Damaged sections: truncated at every length, with flipped bits, misaligned. An error, or a tokenizer that does no
// harm (run under ASan too).
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>

#include "tests/text/fixtures.h"
#include "text/chat.h"
#include "text/section.h"

namespace slmd::tests {
namespace {

// Everything that a tokenizer can be asked, on whatever opened.
void use(const text::Tokenizer& t) {
    const std::string text =
        "<|im_start|>the hello  world 12\n\xC3\xA9\xFF<|im_end|><tool> " + std::string(100, 'a') + std::string(90, ' ');
    const text::Trusted trusted[] = {{0, 20}, {40, 90}};
    std::vector<std::int32_t> out(1000);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(text.size()));
    const auto n = t.encode(text, trusted, true, out, scratch);
    if (n) {
        ASSERT_LE(n.value(), out.size());
        for (std::size_t i = 0; i < n.value(); ++i) {
            ASSERT_GE(out[i], 0);
            ASSERT_LT(out[i], t.vocab());
        }
    }
    out.resize(20);
    if (const auto fitted = t.encode_fitting(text, out, scratch); fitted) {
        ASSERT_LE(fitted.value().tokens, out.size());
    }
    std::size_t bytes = 0;
    for (std::int32_t id = -1; id <= t.vocab() && id < 1000; ++id) bytes += t.piece(id, id % 2).size() + t.is_end(id);
    (void)t.find("<|im_end|>");
    (void)t.bos();
    EXPECT_LT(bytes, 100000000u);
}

// A copy that ends where its memory ends, so that ASan sees a read past it.
struct Copy {
    explicit Copy(std::span<const std::byte> from) : size(from.size()), data(new std::byte[from.size()]) {
        std::copy(from.begin(), from.end(), data.get());
    }
    std::span<std::byte> bytes() const { return {data.get(), size}; }
    std::size_t size;
    std::unique_ptr<std::byte[]> data;
};

std::vector<std::vector<std::byte>> sections() {
    return {pack::build_tokenizer(small_bpe("smollm")).value(), pack::build_tokenizer(small_sentencepiece()).value(),
            pack::build_tokenizer(small_wordpiece()).value()};
}

TEST(Hostile, TruncatedSectionsAreRefused) {
    for (const auto& whole : sections()) {
        for (std::size_t n = 0; n<whole.size(); n += whole.size()> 32768 ? 37 : 1) {
            const Copy cut{std::span(whole).first(n)};
            const auto t = text::Tokenizer::open(cut.bytes());
            ASSERT_FALSE(t) << n << " of " << whole.size();
            EXPECT_EQ(t.error().code, Code::model_format);
        }
        EXPECT_TRUE(text::Tokenizer::open(whole));
    }
}

TEST(Hostile, FlippedBits) {
    std::mt19937 random(3);
    int refused = 0, used = 0;
    for (const auto& whole : sections()) {
        const Copy copy(whole);
        const auto bytes = copy.bytes();
        const auto flip_and_use = [&](std::size_t bit) {
            bytes[bit / 8] ^= std::byte{1} << bit % 8;
            const auto t = text::Tokenizer::open(bytes);
            if (t)
                use(t.value()), ++used;
            else
                ++refused;
            bytes[bit / 8] ^= std::byte{1} << bit % 8;
        };
        for (std::size_t bit = 0; bit < 8 * sizeof(text::TokenizerHeader); ++bit) flip_and_use(bit);
        for (int round = 0; round < 4000; ++round) flip_and_use(random() % (8 * whole.size()));
    }
    EXPECT_GT(refused, 500);
    EXPECT_GT(used, 500);
}

TEST(Hostile, ManyRandomBytes) {
    std::mt19937 random(4);
    int used = 0;
    for (const auto& whole : sections())
        for (int round = 0; round < 1000; ++round) {
            const Copy copy(whole);
            for (int n = 1 + static_cast<int>(random() % 8); n > 0; --n)
                copy.bytes()[sizeof(text::TokenizerHeader) +
                             random() % (whole.size() - sizeof(text::TokenizerHeader))] =
                    static_cast<std::byte>(random());
            const auto t = text::Tokenizer::open(copy.bytes());
            if (t) use(t.value()), ++used;
        }
    EXPECT_GT(used, 100);
}

TEST(Hostile, TablesThatPointOutside) {
    const auto whole = sections()[0];
    // Every 32-bit field of the header in turn takes values from just over its bound to the largest.
    for (std::size_t field = 0; field + 4 <= sizeof(text::TokenizerHeader); field += 4)
        for (const std::uint32_t value :
             {0u, 1u, 7u, static_cast<std::uint32_t>(whole.size()), static_cast<std::uint32_t>(whole.size()) + 8,
              0x7FFFFFFFu, 0x80000000u, 0xFFFFFFF8u, 0xFFFFFFFFu}) {
            const Copy copy(whole);
            std::memcpy(copy.bytes().data() + field, &value, 4);
            const auto t = text::Tokenizer::open(copy.bytes());
            if (t) use(t.value());
        }
}

TEST(Hostile, MisalignedSectionsAreRefused) {
    const auto whole = sections()[0];
    std::vector<std::byte> moved(whole.size() + 8);
    for (std::size_t by = 1; by < 8; ++by) {
        std::copy(whole.begin(), whole.end(), moved.begin() + static_cast<std::ptrdiff_t>(by));
        EXPECT_FALSE(text::Tokenizer::open(std::span(moved).subspan(by, whole.size())));
    }
}

TEST(Hostile, ChatSections) {
    pack::TokenizerSpec spec;
    spec.tokens = {"<s>", "</s>"};
    spec.bos = 0, spec.eos = 1;
    for (const std::string& name : pack::chat_template_names()) {
        const auto whole = pack::build_chat({}, spec, name).value();
        for (std::size_t n = 1; n < whole.size(); ++n)
            EXPECT_FALSE(text::ChatTemplate::open(Copy(std::span(whole).first(n)).bytes())) << name << n;
        const Copy copy(whole);
        for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
            copy.bytes()[bit / 8] ^= std::byte{1} << bit % 8;
            if (const auto chat = text::ChatTemplate::open(copy.bytes())) {
                const text::Message messages[] = {{text::Role::system, "a"},
                                                  {text::Role::user, "b"},
                                                  {text::Role::assistant, "c"},
                                                  {text::Role::user, "d"}};
                std::vector<char> out(2000);
                std::vector<text::Trusted> trusted(16);
                const auto r = chat.value().render(messages, out, trusted);
                if (r) {
                    EXPECT_LE(r.value().bytes, out.size());
                }
            }
            copy.bytes()[bit / 8] ^= std::byte{1} << bit % 8;
        }
    }
}

// ---- Damaged files: the readers must say so or give a spec that build_tokenizer judges.

template <class Read>
void damage(const std::string& whole, const Read& read, int rounds) {
    std::mt19937 random(9);
    const auto judge = [&](const std::string& file) {
        if (auto spec = read(file)) (void)pack::build_tokenizer(spec.value());
    };
    for (std::size_t n = 0; n < whole.size(); n += 1 + whole.size() / 200) judge(whole.substr(0, n));
    for (int round = 0; round < rounds; ++round) {
        std::string file = whole;
        for (int n = 1 + static_cast<int>(random() % 4); n > 0; --n)
            file[random() % file.size()] ^= static_cast<char>(1 << random() % 8);
        judge(file);
    }
}

TEST(Hostile, DamagedFiles) {
    if (!exists(shared("tokenizers/llama2"))) GTEST_SKIP() << "SKIPPED: no " << shared("tokenizers/llama2");
    const auto head = [](const char* path, std::size_t n) { return read_file(shared(path)).substr(0, n); };
    damage(
        head("tokenizers/llama2/tokenizer.model", 20000),
        [](const std::string& f) { return pack::read_sentencepiece(std::as_bytes(std::span(f)), "f"); }, 300);
    damage(
        head("tokenizers/llama2/tokenizer.bin", 20000),
        [](const std::string& f) { return pack::read_llama2c_tokenizer(std::as_bytes(std::span(f)), "f"); }, 300);
}

TEST(Hostile, DamagedTokenizerJson) {
    damage(
        tokenizer_json_text(small_bpe("gpt-2")), [](const std::string& f) { return pack::read_tokenizer_json(f, "f"); },
        1000);
}

}  // namespace
}  // namespace slmd::tests
