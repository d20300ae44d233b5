// Differences of images: what comes out is the new image to the byte, or nothing.
#include "image/delta.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/sha256.h"
#include "image/format.h"
#include "synthetic.h"
#include "toolchain/slmpack/image/diff.h"

namespace slmd::test {
namespace {

using namespace image;

class Delta : public testing::Test {
  protected:
    TemporaryFolder folder;
    const std::string before = folder / "before.slm", after = folder / "after.slm", delta = folder / "delta",
                      out = folder / "out.slm";
    pack::DiffSummary summary;

    // Two images that differ in one tensor and in the provenance.
    void SetUp() override {
        Synthetic s;
        ASSERT_TRUE(pack::write_image(before, s.contents, {}));
        s.data.at("blk.0.attn_norm").values[0] += 1;
        s.contents.provenance = [] { return std::string(R"({"tool":"another"})"); };
        ASSERT_TRUE(pack::write_image(after, s.contents, {}));
        ASSERT_NE(read_file(before), read_file(after));
        auto made = pack::write_diff(before, after, delta);
        ASSERT_TRUE(made) << made.error().text;
        summary = made.value();
    }
    // What apply says, which has written nothing.
    std::string refused(const std::string& old_path, const std::string& delta_path) {
        const auto r = apply_delta(old_path.c_str(), delta_path.c_str(), out.c_str());
        EXPECT_FALSE(r) << "was accepted";
        EXPECT_FALSE(std::filesystem::exists(out));
        return r ? "" : r.error().text;
    }
    void expect_refused(const std::string& old_path, const std::string& delta_path, const std::string& why) {
        const std::string text = refused(old_path, delta_path);
        EXPECT_NE(text.find(why), std::string::npos) << text;
    }
};

TEST_F(Delta, GivesTheNewImage) {
    const auto done = apply_delta(before.c_str(), delta.c_str(), out.c_str());
    ASSERT_TRUE(done) << done.error().text;
    EXPECT_EQ(read_file(out), read_file(after));
    EXPECT_GT(summary.kept, 0u);
    EXPECT_LT(summary.kept, summary.frames);
    EXPECT_LT(summary.bytes, summary.new_bytes);
    EXPECT_EQ(summary.bytes, std::filesystem::file_size(delta));
}

TEST_F(Delta, OfAnImageAndItselfIsItsFrontAndEnd) {
    auto made = pack::write_diff(after, after, delta);
    ASSERT_TRUE(made);
    EXPECT_EQ(made->kept, made->frames);
    EXPECT_LT(made->bytes, sizeof(DeltaHeader) + 3 * sizeof(DeltaOp) + sizeof(StoredHeader) +
                               made->frames * (sizeof(FrameEntry) + 8) + 64);
    ASSERT_TRUE(apply_delta(after.c_str(), delta.c_str(), out.c_str()));
    EXPECT_EQ(read_file(out), read_file(after));
}

TEST_F(Delta, WrongAndDamagedFilesAreRefused) {
    expect_refused(after, delta, "is not the image that");
    expect_refused(before, before, "not a difference of images");
    expect_refused(folder / "absent", delta, "absent");
    Synthetic s;
    pack::WriteOptions raw;
    raw.raw = true;
    ASSERT_TRUE(pack::write_image(folder / "raw", s.contents, raw));
    expect_refused(folder / "raw", delta, "not a stored image");
    auto diff = pack::write_diff(before, folder / "raw", folder / "d");
    ASSERT_FALSE(diff);
    EXPECT_NE(std::string(diff.error().text).find("raw image"), std::string::npos);

    auto newer = read_file(delta);
    newer[8] = 2;
    write_file(folder / "newer", newer);
    expect_refused(before, folder / "newer", "version 2");

    // A frame of the old image that has rotted, in a piece that is copied.
    auto rotten = read_file(before);
    rotten[rotten.size() / 2] = static_cast<char>(rotten[rotten.size() / 2] ^ 1);
    write_file(folder / "rotten", rotten);
    expect_refused(folder / "rotten", delta, "one of them is damaged");
}

TEST_F(Delta, EveryByteOfItCounts) {
    const auto whole = read_file(delta);
    for (std::size_t i = 0; i < whole.size(); i++) {
        if (i >= 4096 && i % 61 != 0) continue;  // of the literals a sample: they are covered as one
        auto changed = whole;
        changed[i] = static_cast<char>(changed[i] ^ 0x10);
        write_file(folder / "changed", changed);
        ASSERT_NE(refused(before, folder / "changed"), "") << "byte " << i;
    }
    for (const std::size_t size : {std::size_t{0}, std::size_t{7}, sizeof(DeltaHeader), sizeof(DeltaHeader) + 5,
                                   whole.size() / 2, whole.size() - 1}) {
        write_file(folder / "short", {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
        ASSERT_NE(refused(before, folder / "short"), "") << size << " bytes of it";
    }
    auto longer = whole;
    longer.push_back(0);
    write_file(folder / "longer", longer);
    expect_refused(before, folder / "longer", "do not add up");
}

// Pieces that reach outside, with the list's own hash made right.
TEST_F(Delta, HostilePiecesAreRefused) {
    const auto whole = read_file(delta);
    const auto forged = [&](std::size_t op, auto change) {
        auto bytes = whole;
        DeltaHeader h;
        std::memcpy(&h, bytes.data(), sizeof h);
        DeltaOp o;
        std::memcpy(&o, bytes.data() + sizeof h + op * sizeof o, sizeof o);
        change(h, o);
        std::memcpy(bytes.data() + sizeof h + op * sizeof o, &o, sizeof o);
        const auto list = sha256(std::as_bytes(std::span(bytes)).subspan(sizeof h, h.op_count * sizeof o));
        std::memcpy(h.ops_sha256, list.value().data(), sizeof h.ops_sha256);
        std::memcpy(bytes.data(), &h, sizeof h);
        write_file(folder / "forged", bytes);
        return refused(before, folder / "forged");
    };
    for (const std::size_t op : {0, 1}) {
        for (const std::uint64_t offset : {std::uint64_t{1} << 40, ~std::uint64_t{0}, ~std::uint64_t{0} - 8})
            EXPECT_NE(forged(op, [&](DeltaHeader&, DeltaOp& o) { o.offset = offset; }).find("outside of its file"),
                      std::string::npos);
        for (const std::uint64_t length : {std::uint64_t{0}, std::uint64_t{1} << 40, ~std::uint64_t{0}})
            EXPECT_NE(forged(op, [&](DeltaHeader&, DeltaOp& o) { o.length = length; }).find("outside of its file"),
                      std::string::npos);
        EXPECT_NE(forged(op, [&](DeltaHeader&, DeltaOp& o) { o.kind = static_cast<DeltaOp::Kind>(7); })
                      .find("outside of its file"),
                  std::string::npos);
    }
    EXPECT_NE(forged(0, [&](DeltaHeader& h, DeltaOp&) { h.new_size++; }).find("do not add up"), std::string::npos);
}

}  // namespace
}  // namespace slmd::test
