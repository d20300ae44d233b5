// Images with other small sections: the rest is as it was, to the byte.
#include "toolchain/slmpack/image/amend.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "image/check.h"
#include "image/image.h"
#include "image/layout.h"
#include "image/signature.h"
#include "image/stored.h"
#include "synthetic.h"
#include "toolchain/slmpack/image/diff.h"
#include "toolchain/slmpack/image/sign.h"
#include "toolchain/slmpack/image/verify.h"

namespace slmd::test {
namespace {

using namespace image;

const std::string provenance = R"({"source":"synthetic","evaluation":[]})";

std::string text_of(std::span<const std::byte> section) {
    return {reinterpret_cast<const char*>(section.data()), section.size()};
}

class Amend : public testing::Test {
  protected:
    TemporaryFolder folder;
    const std::string stored = folder / "m.slm", raw = folder / "m.raw";
    const std::vector<std::byte> golden = std::vector<std::byte>(1234, std::byte{7});

    void SetUp() override {
        const Synthetic s(true);
        ASSERT_TRUE(pack::write_image(stored, s.contents, {}));
        ASSERT_TRUE(pack::write_image(raw, s.contents, {.raw = true}));
    }
    pack::AmendSummary amend(const std::string& path, const pack::Amendment& amendment) {
        auto done = pack::amend_image(path, path, amendment);
        EXPECT_TRUE(done) << done.error().text;
        return done ? *done : pack::AmendSummary{};
    }
    static std::string refused(const std::string& path, const std::string& output, const pack::Amendment& amendment) {
        const auto done = pack::amend_image(path, output, amendment);
        EXPECT_FALSE(done);
        return done ? "" : done.error().text;
    }
};

TEST_F(Amend, OnlyTheSectionsChangeInBothForms) {
    for (const std::string& path : {stored, raw}) {
        const std::string before = folder / "before";
        std::filesystem::copy_file(path, before, std::filesystem::copy_options::overwrite_existing);
        const auto summary = amend(path, {.provenance = provenance, .golden = golden});
        EXPECT_EQ(summary.bytes, std::filesystem::file_size(path));
        EXPECT_FALSE(summary.was_signed);
        EXPECT_EQ(pack::verify_image(path), std::vector<std::string>{});
        auto was = Image::open(before.c_str(), {}), is = Image::open(path.c_str(), {});
        ASSERT_TRUE(was);
        ASSERT_TRUE(is) << is.error().text;
        EXPECT_EQ(text_of(is->section(SectionId::provenance)), provenance);
        EXPECT_EQ(text_of(is->section(SectionId::golden)), text_of(golden));
        for (const auto id :
             {SectionId::params, SectionId::index, SectionId::tokenizer, SectionId::chat, SectionId::tensors})
            EXPECT_EQ(text_of(is->section(id)), text_of(was->section(id))) << section_name(std::uint32_t(id));
        std::vector<std::string> order;
        for (std::uint32_t i = 0; i < is->header().section_count; i++)
            order.push_back(section_name(is->header().sections[i].id));
        EXPECT_EQ(order, (std::vector<std::string>{"tokenizer", "chat", "tensors", "provenance", "golden", "params",
                                                   "index"}));
        // And back: the very file that it was.
        amend(path, {.provenance = text_of(was->section(SectionId::provenance)), .golden = std::vector<std::byte>{}});
        EXPECT_EQ(read_file(path), read_file(before));
    }
}

TEST_F(Amend, TensorsKeepTheirFramesWhateverTheyWereWrittenWith) {
    const Synthetic s(true);
    ASSERT_TRUE(pack::write_image(stored, s.contents, {.level = 1, .least_saving = 0.4}));
    const std::string next = folder / "next.slm";
    const auto done = pack::amend_image(stored, next, {.golden = golden});
    ASSERT_TRUE(done) << done.error().text;
    auto diff = pack::write_diff(stored, next, folder / "delta");
    ASSERT_TRUE(diff) << diff.error().text;
    // all but the header, the index (which moves, but stays) and the new section
    EXPECT_EQ(diff->kept, diff->frames - 2);
    // What is new: the front with its frame table and the seek table, header and golden section.
    EXPECT_LT(diff->bytes, diff->frames * (sizeof(FrameEntry) + 8) + 16384);
}

TEST_F(Amend, IsStillAnOrdinaryZstdFile) {
    if (std::system("zstd --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no zstd program here";
    for (const std::string& path : {stored, raw}) amend(path, {.provenance = provenance, .golden = golden});
    ASSERT_EQ(std::system(("zstd -dcq " + stored + " > " + (folder / "out")).c_str()), 0);
    EXPECT_EQ(read_file(folder / "out"), read_file(raw));
}

TEST_F(Amend, ASignatureGoesAndASignedImageCanBeMadeOfIt) {
    ASSERT_TRUE(pack::make_key(folder / "key"));
    const auto key = image::read_private_key((folder / "key").c_str());
    ASSERT_TRUE(key);
    for (const std::string& path : {stored, raw}) {
        const auto unsigned_bytes = read_file(path);
        ASSERT_TRUE(pack::sign_image(path, path, key.value()));
        EXPECT_TRUE(amend(path, {}).was_signed);
        EXPECT_EQ(read_file(path), unsigned_bytes) << "nothing else changes";
        amend(path, {.golden = golden});
        ASSERT_TRUE(pack::sign_image(path, path, key.value()));
        EXPECT_TRUE(pack::verify_image(path, {}, std::span(&key.value().public_key, 1)).empty());
    }
}

TEST_F(Amend, WhatIsRefusedLeavesTheFile) {
    const auto before = read_file(stored);
    EXPECT_NE(refused(stored, folder / "nowhere/m.slm", {}).find("nowhere"), std::string::npos);
    EXPECT_NE(refused(stored, stored, {.provenance = ""}).find("provenance has 0 bytes"), std::string::npos);
    EXPECT_NE(refused(stored, stored, {.provenance = std::string(frame_bytes + 1, ' ')}).find("provenance has"),
              std::string::npos);
    EXPECT_EQ(read_file(stored), before);
    auto damaged = before;
    damaged[damaged.size() / 2] ^= 1;
    write_file(stored, damaged);
    EXPECT_NE(refused(stored, stored, {}).find("CRC mismatch"), std::string::npos);
    EXPECT_EQ(read_file(stored), damaged);

    auto bytes = read_file(raw);
    remove_hashes(bytes);
    write_file(raw, bytes);
    EXPECT_NE(refused(raw, raw, {}).find("without hashes"), std::string::npos);
}

}  // namespace
}  // namespace slmd::test
