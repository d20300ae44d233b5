// Experts that are decoded when they are asked for: bit for bit those of the whole image, a fixed number kept, each
// frame checked.
#include "image/experts.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "image/image.h"
#include "image/layout.h"
#include "synthetic.h"

namespace slmd::test {
namespace {

using namespace image;

constexpr OpenOptions by_expert{.threads = 2, .residency = Residency::streamed};
constexpr std::uint32_t layers = 3, count = 5;

// hidden 64: what an expert has of a stream is aligned as streams are. 40: it is not.
struct Mixture : Synthetic {
    explicit Mixture(std::uint32_t hidden, std::uint32_t dim = 96) {
        contents.tensors.clear();
        data.clear();
        contents.params.layers = layers;
        contents.params.experts = count;
        contents.params.experts_used = 2;
        add("token_embd", Kind::i8, 100, dim);
        for (std::uint32_t i = 0; i < layers; i++) {
            const std::string layer = "blk." + std::to_string(i) + ".";
            add(layer + "attn_q", Kind::i4, 64, dim);
            add(layer + "ffn_gate_inp", Kind::f32, count, dim);
            const Kind kind = i == 0 ? Kind::i4a : i == 1 ? Kind::i8 : Kind::i6;
            for (const char* name : {"ffn_gate_exps", "ffn_up_exps"}) add_experts(layer + name, kind, hidden, dim);
            add_experts(layer + "ffn_down_exps", Kind::i4, dim, hidden);
        }
        add("output", Kind::i4, 100, dim);
    }
    void add_experts(const std::string& name, Kind kind, std::uint32_t rows, std::uint32_t cols) {
        add(name, kind, count * rows, cols);
        contents.tensors.back().residency = residency_on_demand;
    }
};

struct Files {
    TemporaryFolder folder;
    std::string path = folder / "m.slm";
    explicit Files(const Synthetic& s) {
        const auto written = pack::write_image(path, s.contents, {});
        EXPECT_TRUE(written) << written.error().text;
    }
    Image open(const OpenOptions& options) const {
        auto image = Image::open(path.c_str(), options);
        EXPECT_TRUE(image) << image.error().text;
        return std::move(image).value();
    }
    StoredFile stored() const {
        auto file = StoredFile::open(path.c_str(), ::open(path.c_str(), O_RDONLY),
                                     static_cast<std::uint64_t>(std::filesystem::file_size(path)));
        EXPECT_TRUE(file) << file.error().text;
        return std::move(file).value();
    }
};

Result<void> read(Experts& experts, int layer, std::span<const std::uint16_t> wanted) {
    experts.reserve(layer, wanted);
    for (int i = 0; i < experts.missing(); i++) experts.read(i, i % Experts::readers);
    return experts.finish();
}

void expect_expert(const Image& whole, const Experts& experts, int layer, int expert) {
    constexpr const char* names[] = {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"};
    const Expert e = experts.place(layer, expert);
    for (int m = 0; m < expert_matrices; m++) {
        const std::string name = "blk." + std::to_string(layer) + "." + names[m];
        const Tensor want = whole.tensor(name).value();
        const auto same = [&](std::span<const std::byte> all, const std::byte* part) {
            const std::size_t size = all.size() / count;
            ASSERT_EQ(part == nullptr, size == 0) << name;
            if (size == 0) return;
            EXPECT_EQ(std::memcmp(all.data() + static_cast<std::size_t>(expert) * size, part, size), 0)
                << name << " of expert " << expert;
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(part) % 64, 0u) << name;
        };
        same(want.codes, e.codes[m]);
        same(want.scales, e.scales[m]);
        same(want.steps, e.steps[m]);
    }
}

TEST(Experts, AreThoseOfTheWholeImageHoweverManyAreKept) {
    for (const std::uint32_t hidden : {64u, 40u, 320u}) {
        const Files files(Mixture(hidden, 96));
        const Image whole = files.open({});
        EXPECT_EQ(whole.experts(), nullptr);
        const auto least = whole.footprint(Residency::streamed).layers;
        for (const int more : {0, 1, 4, 100}) {
            const auto all = static_cast<int>(layers * count);
            const std::uint64_t each = (whole.footprint(Residency::streamed, 1u << 30).layers - least) / (all - count);
            std::atomic<std::uint64_t> frames{0};
            OpenOptions options = by_expert;
            options.frames = &frames;
            options.experts = each * (count + static_cast<unsigned>(more));
            const Image image = files.open(options);
            ASSERT_NE(image.experts(), nullptr);
            Experts& experts = *image.experts();
            EXPECT_EQ(experts.kept(), std::min(static_cast<int>(count) + more, all)) << hidden;
            EXPECT_EQ(image.footprint(Residency::streamed, options.experts).layers,
                      least + each * static_cast<unsigned>(experts.kept() - static_cast<int>(count)));
            std::mt19937 random(7);
            for (int round = 0; round < 60; round++) {
                const int layer = static_cast<int>(random() % layers);
                std::vector<std::uint16_t> wanted;
                for (std::uint16_t e = 0; e < count; e++)
                    if (random() % 2 != 0) wanted.push_back(e);
                const auto done = read(experts, layer, wanted);
                ASSERT_TRUE(done) << done.error().text;
                for (const std::uint16_t e : wanted) expect_expert(whole, experts, layer, e);
                const std::uint64_t before = experts.decoded();
                ASSERT_TRUE(read(experts, layer, wanted));
                EXPECT_EQ(experts.decoded(), before) << "what was there is read again";
            }
            EXPECT_GE(frames.load(), 6 * experts.decoded());
            if (experts.kept() == all) {
                EXPECT_EQ(experts.decoded(), static_cast<std::uint64_t>(all));
            }
        }
    }
}

TEST(Experts, AFrameHoldsOneExpertsBytesWhereTheyAreAligned) {
    for (const std::uint32_t hidden : {64u, 320u}) {
        const Files files(Mixture(hidden, 1024));
        const Image whole = files.open({});
        const StoredFile file = files.stored();
        int frames = 0;
        for (const TensorEntry& t : whole.tensors()) {
            if (!is_expert(t)) continue;
            const std::pair<std::uint64_t, std::uint64_t> streams[] = {
                {t.codes, t.codes_size}, {t.scales, t.scales_size}, {t.steps, t.steps_size}};
            for (const auto& [offset, size] : streams) {
                if (size == 0) continue;
                const std::uint64_t share = size / count;
                for (std::uint32_t i = file.frame_at(offset); file.raw_offset(i) < offset + size; i++, frames++)
                    EXPECT_EQ((file.raw_offset(i) - offset) / share,
                              (file.raw_offset(i) + file.frames()[i].raw - 1 - offset) / share)
                        << t.name;
            }
        }
        EXPECT_GE(frames, static_cast<int>(layers * count * 6));
    }
}

TEST(Experts, ADamagedFrameIsAnErrorOfThatStepAndIsTriedAgain) {
    const Files files(Mixture(64));
    const Image whole = files.open({}), image = files.open(by_expert);
    const StoredFile file = files.stored();
    std::uint64_t at = 0;
    for (const TensorEntry& t : whole.tensors())
        if (std::string_view(t.name) == "blk.1.ffn_up_exps") {
            const std::uint64_t third = t.scales + 3 * t.scales_size / count;
            at = file.frames()[file.frame_at(third)].offset + 20;
        }
    ASSERT_NE(at, 0u);
    const int fd = open(files.path.c_str(), O_RDWR);
    const auto flip = [&] {
        char byte = 0;
        ASSERT_EQ(pread(fd, &byte, 1, static_cast<off_t>(at)), 1);
        byte ^= 1;
        ASSERT_EQ(pwrite(fd, &byte, 1, static_cast<off_t>(at)), 1);
    };
    Experts& experts = *image.experts();
    const std::uint16_t good[] = {1, 2}, bad[] = {0, 3};
    flip();
    ASSERT_TRUE(read(experts, 1, good));
    for (int i = 0; i < 2; i++) {
        const auto failed = read(experts, 1, bad);
        ASSERT_FALSE(failed);
        EXPECT_EQ(failed.error().code, Code::model_integrity);
        EXPECT_NE(std::string(failed.error().text).find("blk.1.ffn_up_exps scales): CRC mismatch"), std::string::npos)
            << failed.error().text;
    }
    ASSERT_TRUE(read(experts, 1, good));
    for (const int e : good) expect_expert(whole, experts, 1, e);
    flip();
    close(fd);
    ASSERT_TRUE(read(experts, 1, bad));
    for (const int e : bad) expect_expert(whole, experts, 1, e);
}

TEST(Experts, AnImageThatLacksAMatrixOfALayerIsRefused) {
    Mixture m(64);
    std::erase_if(m.contents.tensors, [](const auto& t) { return t.name == "blk.2.ffn_up_exps"; });
    const Files files(m);
    const auto image = Image::open(files.path.c_str(), by_expert);
    ASSERT_FALSE(image);
    EXPECT_EQ(image.error().code, Code::model_format);
    EXPECT_NE(std::string(image.error().text).find("blk.2.ffn_up_exps is absent"), std::string::npos)
        << image.error().text;
}

TEST(Experts, MoreThanThereCanBeAreRefused) {
    Mixture m(64);
    m.contents.params.experts = max_experts + 1;
    const TemporaryFolder folder;
    const auto written = pack::write_image(folder / "m.slm", m.contents, {});
    ASSERT_FALSE(written);
    EXPECT_NE(std::string(written.error().text).find("2 of 257 experts"), std::string::npos) << written.error().text;
    m.contents.params.experts = count;
    m.contents.params.layers = 0;
    const auto without = pack::write_image(folder / "m.slm", m.contents, {});
    ASSERT_FALSE(without);
    EXPECT_NE(std::string(without.error().text).find("2 of 5 experts in 0 layers"), std::string::npos)
        << without.error().text;
}

}  // namespace
}  // namespace slmd::test
