// Prefixes kept over restarts: the bits of a fresh prefill, every damage caught, bounded.
#include "engine/snapshot.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "tests/engine/tiny_model.h"

using namespace slmd;
using engine::Engine;
using engine::Snapshots;

using test::tokens_of;

namespace {

namespace fs = std::filesystem;
const std::atomic<bool> never{false};

const image::Image& tiny_image() {
    static const auto image = test::open_image(test::TinyModel());
    return *image;
}

std::unique_ptr<Engine> make(const char* level = nullptr, int threads = 2) {
    auto e = Engine::open(tiny_image(), {.context = 256, .slots = 2, .threads = threads, .level = level});
    EXPECT_TRUE(e) << (e ? "" : e.error().what());
    return std::unique_ptr<Engine>(e.value());
}

std::vector<float> logits_of(Engine& e, int slot, const std::vector<std::int32_t>& tokens) {
    auto p = e.advance(slot, tokens, 1000, never);
    EXPECT_TRUE(p) << (p ? "" : p.error().what());
    return {p->logits.begin(), p->logits.end()};
}

struct Kept {
    std::string folder = testing::TempDir() + "slmd-kept-" + std::to_string(getpid());
    std::vector<std::byte> memory = std::vector<std::byte>(Snapshots::memory_bytes());
    Snapshots snapshots;
    explicit Kept(std::uint64_t limit = 1 << 24) { fs::create_directory(folder), reopen(limit); }
    ~Kept() { fs::remove_all(folder); }
    void reopen(std::uint64_t limit = 1 << 24) {
        const auto opened = snapshots.open(folder.c_str(), limit, memory);
        EXPECT_TRUE(opened) << (opened ? "" : opened.error().what());
    }
    std::vector<fs::path> files() const {
        std::vector<fs::path> all;
        for (const auto& e : fs::directory_iterator(folder)) all.push_back(e.path());
        return all;
    }
};

Sha256 key_of(std::span<const std::int32_t> tokens, std::span<const std::byte> more = {}) {
    return Snapshots::key(tiny_image().header(), more, tokens).value();
}

constexpr int prefix = 96;

// Keeps the first tokens of a prompt, and returns them.
std::vector<std::int32_t> keep(Kept& kept, unsigned seed = 1) {
    auto e = make();
    auto tokens = tokens_of(120, seed);
    logits_of(*e, 0, tokens);
    tokens.resize(prefix);
    EXPECT_TRUE(e->can_hold(0, prefix));
    const auto saved = kept.snapshots.save(*e, 0, tokens, key_of(tokens));
    EXPECT_TRUE(saved) << (saved ? "" : saved.error().what());
    return tokens;
}

}  // namespace

TEST(Snapshots, give_the_bits_of_a_fresh_prefill) {
    Kept kept;
    const auto tokens = keep(kept);
    EXPECT_TRUE(kept.snapshots.has(key_of(tokens)));
    kept.reopen();  // another process
    ASSERT_TRUE(kept.snapshots.has(key_of(tokens)));
    auto whole = tokens;
    for (const std::int32_t t : tokens_of(20, 9)) whole.push_back(t);
    for (const char* const level : {"scalar", static_cast<const char*>(nullptr)}) {
        auto fresh = make(), e = make(level, 1);
        const auto expected = logits_of(*fresh, 0, whole);
        ASSERT_TRUE(kept.snapshots.load(*e, 1, tokens, key_of(tokens)));
        EXPECT_EQ(e->cached(1).size(), std::size_t{prefix});
        EXPECT_EQ(logits_of(*e, 1, whole), expected);
        // and another slot takes it over
        EXPECT_EQ(logits_of(*e, 0, whole), expected);
    }
}

std::vector<std::byte> bytes_of(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    const std::vector<char> chars{std::istreambuf_iterator<char>(in), {}};
    const auto bytes = std::as_bytes(std::span(chars));
    return {bytes.begin(), bytes.end()};
}

// As slmpack prefixes puts files together.
std::vector<std::byte> section_of(const std::vector<std::vector<std::byte>>& files) {
    std::vector<std::byte> section;
    for (const auto& file : files) {
        image::Prefix prefix{};
        prefix.bytes = file.size();
        const auto head = std::as_bytes(std::span(&prefix, 1));
        section.insert(section.end(), head.begin(), head.end());
        section.insert(section.end(), file.begin(), file.end());
        section.resize((section.size() + 63) / 64 * 64);
    }
    return section;
}

TEST(Snapshots, of_the_image_are_found_where_the_folder_has_none) {
    std::vector<std::vector<std::byte>> files;
    std::vector<std::vector<std::int32_t>> prompts;
    for (const unsigned seed : {1u, 2u, 3u}) {
        Kept kept;
        prompts.push_back(keep(kept, seed));
        files.push_back(bytes_of(kept.files().at(0)));
        auto checked = Snapshots::check(files.back(), tiny_image().header());
        ASSERT_TRUE(checked) << checked.error().what();
        EXPECT_EQ(*checked, static_cast<std::uint32_t>(prefix));
    }
    const auto section = section_of(files);
    Kept kept;
    kept.snapshots.bake(section);
    auto fresh = make(), e = make();
    for (const auto& tokens : prompts) {
        auto whole = tokens;
        whole.push_back(7);
        ASSERT_TRUE(kept.snapshots.has(key_of(tokens)));
        ASSERT_TRUE(kept.snapshots.load(*e, 1, tokens, key_of(tokens)));
        EXPECT_EQ(e->cached(1).size(), std::size_t{prefix});
        EXPECT_EQ(logits_of(*e, 1, whole), logits_of(*fresh, 0, whole));
    }
    EXPECT_TRUE(kept.files().empty());
    EXPECT_FALSE(kept.snapshots.has(key_of(tokens_of(prefix, 4))));

    // Damaged ones: the hash says so, and none of them is taken from then on. However a section ends, nothing is read
    // behind it.
    auto damaged = section;
    damaged[section.size() - files[2].size() / 64 * 64 - 2 * sizeof(image::Prefix) - 200] ^= std::byte{1};
    kept.snapshots.bake(damaged);
    const auto failed = kept.snapshots.load(*e, 1, prompts[1], key_of(prompts[1]));
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, Code::model_integrity);
    EXPECT_NE(
        std::string(failed.error().what()).find("the image's section prefixes: it is damaged; it is not used, and"),
        std::string::npos)
        << failed.error().what();
    EXPECT_FALSE(kept.snapshots.has(key_of(prompts[0])));
    for (std::size_t n = 0; n < section.size(); n += 61) {
        const std::vector<std::byte> part(section.begin(), section.begin() + static_cast<std::ptrdiff_t>(n));
        kept.snapshots.bake(part);
        const bool first = n >= sizeof(image::Prefix) + files[0].size();
        EXPECT_EQ(kept.snapshots.has(key_of(prompts[0])), first) << n;
        EXPECT_FALSE(kept.snapshots.has(key_of(prompts[2])) && n < section.size() - 64) << n;
    }
}

TEST(Snapshots, that_are_not_the_images_are_not_baked) {
    Kept kept;
    keep(kept);
    const auto file = bytes_of(kept.files().at(0));
    image::RawHeader other = tiny_image().header();
    other.index_sha256[3] ^= 1;
    const auto says = [](std::span<const std::byte> bytes, const image::RawHeader& header) {
        const auto checked = Snapshots::check(bytes, header);
        return checked ? std::string() : checked.error().what();
    };
    EXPECT_EQ(says(file, tiny_image().header()), "");
    EXPECT_NE(says(file, other).find("it is of another image"), std::string::npos);
    for (std::size_t n = 0; n < file.size(); n += 97)
        EXPECT_NE(says(std::span(file).first(n), tiny_image().header()), "") << n;
    for (std::size_t at = 0; at < file.size(); at += 53) {
        auto flipped = file;
        flipped[at] ^= std::byte{2};
        EXPECT_NE(says(flipped, tiny_image().header()), "") << at;
    }
}

TEST(Snapshots, are_of_one_image_one_prompt_and_one_adapter) {
    const auto a = tokens_of(prefix), b = tokens_of(prefix, 2);
    const std::byte adapter[1] = {std::byte{7}};
    EXPECT_EQ(key_of(a), key_of(a));
    EXPECT_NE(key_of(a), key_of(b));
    EXPECT_NE(key_of(a), key_of(std::span(a).first(80)));
    EXPECT_NE(key_of(a), key_of(a, adapter));
    image::RawHeader other = tiny_image().header();
    other.index_sha256[3] ^= 1;
    EXPECT_NE(Snapshots::key(other, {}, a).value(), key_of(a));
}

// Each byte in turn, and each length.
TEST(Snapshots, that_are_damaged_are_caught_and_removed) {
    Kept kept;
    const auto tokens = keep(kept);
    const auto key = key_of(tokens);
    const fs::path path = kept.files().at(0);
    const std::string good = [&] {
        std::ifstream f(path, std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(f), {});
    }();
    auto e = make();
    int caught = 0;
    const auto check = [&](const std::string& bytes, const char* what, std::size_t at) {
        std::ofstream(path, std::ios::binary) << bytes;
        kept.reopen();
        const auto loaded = kept.snapshots.load(*e, 0, tokens, key);
        ASSERT_FALSE(loaded) << what << " " << at;
        EXPECT_EQ(loaded.error().code, Code::model_integrity) << loaded.error().what();
        EXPECT_TRUE(e->cached(0).empty());
        EXPECT_FALSE(kept.snapshots.has(key));
        EXPECT_FALSE(fs::exists(path));
        caught++;
    };
    for (std::size_t at = 0; at < good.size(); at += at < 600 || at + 100 > good.size() ? 1 : 37) {
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
        check(bad, "a flipped bit at", at);
    }
    for (std::size_t n = 0; n < good.size(); n += n < 600 ? 1 : 211) check(good.substr(0, n), "cut after", n);
    check(good + "x", "a byte more than", good.size());
    check(good + good, "twice", good.size());
    std::printf("%d damaged files of %zu bytes caught\n", caught, good.size());
    std::ofstream(path, std::ios::binary) << good;
    kept.reopen();
    EXPECT_TRUE(kept.snapshots.load(*e, 0, tokens, key));
    EXPECT_EQ(e->cached(0).size(), std::size_t{prefix});
}

TEST(Snapshots, stay_within_their_limit_and_the_least_used_goes) {
    std::uint64_t one;
    {
        Kept kept;
        keep(kept);
        one = fs::file_size(kept.files().at(0));
    }
    Kept kept(3 * one + 1000);
    const auto a = keep(kept, 1), b = keep(kept, 2), c = keep(kept, 3);
    EXPECT_EQ(kept.files().size(), 3u);
    auto e = make();
    EXPECT_TRUE(kept.snapshots.load(*e, 0, a, key_of(a)));
    const auto d = keep(kept, 4);
    EXPECT_TRUE(kept.snapshots.has(key_of(a)));
    EXPECT_FALSE(kept.snapshots.has(key_of(b)));
    EXPECT_TRUE(kept.snapshots.has(key_of(c)));
    EXPECT_TRUE(kept.snapshots.has(key_of(d)));
    EXPECT_EQ(kept.files().size(), 3u);
    kept.reopen(one / 2);
    const auto t = tokens_of(prefix, 5);
    logits_of(*e, 0, t);
    const auto too_large = kept.snapshots.save(*e, 0, t, key_of(t));
    ASSERT_FALSE(too_large);
    EXPECT_EQ(too_large.error().code, Code::memory_full);
    for (const fs::path& f : kept.files()) EXPECT_EQ(f.extension(), ".kv") << f;
    std::ofstream(kept.folder + "/" + std::string(32, 'a') + ".kv.tmp-1") << "left by a power cut";
    kept.reopen();
    for (const fs::path& f : kept.files()) EXPECT_EQ(f.extension(), ".kv") << f;
    EXPECT_FALSE(Snapshots().open("/proc/self/stat", 1, kept.memory));
}
