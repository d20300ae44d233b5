// What of an image is not decoded when it is opened: it comes out bit for bit when it is asked for, takes no memory
// before, and is checked each time.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "image/image.h"
#include "image/layers.h"
#include "image/rows.h"
#include "synthetic.h"

namespace slmd::test {
namespace {

using namespace image;

constexpr OpenOptions on_demand{.threads = 2, .residency = Residency::on_demand};

std::string write(const TemporaryFolder& folder, const Synthetic& s, const pack::WriteOptions& options = {}) {
    const std::string path = folder / (options.raw ? "m.raw" : "m.slm");
    const auto written = pack::write_image(path, s.contents, options);
    EXPECT_TRUE(written) << written.error().text;
    return path;
}

// With an embedding of many frames more than are kept; rows that do not fill their last block.
struct Untied : Synthetic {
    explicit Untied(Kind kind, std::uint32_t rows = 5003, std::uint32_t cols = 960) {
        add("token_embd", kind, rows, cols);
        contents.tensors.back().residency = residency_on_demand;
        add("output", Kind::i4, 16, cols);
    }
};

void expect_block(const Tensor& whole, std::uint32_t row, const RowBlock& block) {
    const std::size_t blocks = (whole.rows + 7) / 8, i = row / 8;
    const auto same = [&](std::span<const std::byte> all, const std::byte* part) {
        const std::size_t size = all.size() / blocks;
        EXPECT_EQ(std::memcmp(all.data() + i * size, part, size), 0) << "row " << row;
    };
    same(whole.codes, block.codes);
    same(whole.scales, block.scales);
    if (whole.kind == Kind::i4 || whole.kind == Kind::i6) same(whole.steps, block.steps);
}

// Bytes of its pages; the last one may not be full.
std::uint64_t allocated(int fd) {
    struct stat st;
    EXPECT_EQ(fstat(fd, &st), 0);
    return static_cast<std::uint64_t>(st.st_blocks) * 512;
}

TEST(OnDemand, RowsAreThoseOfTheWholeTensor) {
    for (const Kind kind : {Kind::i4, Kind::i4a, Kind::i6, Kind::i8}) {
        const TemporaryFolder folder;
        const std::string path = write(folder, Untied(kind));
        const auto whole = Image::open(path.c_str(), {}), image = Image::open(path.c_str(), on_demand);
        ASSERT_TRUE(whole) << whole.error().text;
        ASSERT_TRUE(image) << image.error().text;
        EXPECT_EQ(whole.value().rows(), nullptr);
        Rows* const rows = image.value().rows();
        ASSERT_NE(rows, nullptr);
        const Tensor tensor = whole.value().tensor("token_embd").value();
        EXPECT_TRUE(image.value().tensor("token_embd").value().codes.empty());
        std::mt19937 random(7);
        for (int i = 0; i < 400; i++) {
            const std::uint32_t row = i == 0 ? tensor.rows - 1 : random() % tensor.rows;
            const auto block = rows->block(row);
            ASSERT_TRUE(block) << block.error().text;
            expect_block(tensor, row, block.value());
        }
        // The rest is as ever.
        const Tensor output = image.value().tensor("output").value();
        EXPECT_EQ(
            std::memcmp(output.codes.data(), whole.value().tensor("output").value().codes.data(), output.codes.size()),
            0);
    }
}

TEST(OnDemand, AFixedNumberOfFramesIsKept) {
    const TemporaryFolder folder;
    const auto image = Image::open(write(folder, Untied(Kind::i8)).c_str(), on_demand);
    ASSERT_TRUE(image) << image.error().text;
    Rows& rows = *image.value().rows();
    ASSERT_TRUE(rows.block(0));
    const std::uint64_t first = rows.decoded();
    EXPECT_EQ(first, 2u) << "codes and scales";
    ASSERT_TRUE(rows.block(7));
    EXPECT_EQ(rows.decoded(), first) << "the same block";
    for (std::uint32_t row = 0; row < rows.tensor().rows; row += 8) ASSERT_TRUE(rows.block(row));
    const std::uint64_t all = rows.decoded();
    EXPECT_GT(all, 2 * static_cast<std::uint64_t>(rows.kept())) << "more than are kept";
    ASSERT_TRUE(rows.block(rows.tensor().rows - 1));
    EXPECT_EQ(rows.decoded(), all) << "what was used last is there";
    ASSERT_TRUE(rows.block(0));
    EXPECT_EQ(rows.decoded(), all + 2) << "what was used first is not";
}

TEST(OnDemand, MemoryIsWhatTheFootprintSays) {
    const TemporaryFolder folder;
    const std::string path = write(folder, Untied(Kind::i8));
    const auto index = Image::open_index(path.c_str());
    ASSERT_TRUE(index) << index.error().text;
    const Footprint whole = index.value().footprint(Residency::whole),
                    part = index.value().footprint(Residency::on_demand);
    EXPECT_EQ(whole.resident, index.value().sizes().raw);
    EXPECT_EQ(whole.rows, 0u);
    const TensorEntry embedding = [&] {
        for (const TensorEntry& t : index.value().tensors())
            if (std::string(t.name) == "token_embd") return t;
        return TensorEntry{};
    }();
    EXPECT_EQ(part.resident, whole.resident - embedding.codes_size - embedding.scales_size);
    EXPECT_LT(part.rows, embedding.codes_size);

    const auto opened = Image::open(path.c_str(), {}), image = Image::open(path.c_str(), on_demand);
    ASSERT_TRUE(opened);
    ASSERT_TRUE(image);
    const auto pages = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    EXPECT_EQ(allocated(opened.value().memfd()), round_up(whole.resident, pages));
    EXPECT_LE(allocated(image.value().memfd()), part.resident + 3 * pages)
        << "one at each end of the hole, and the last";
    EXPECT_GT(part.rows, static_cast<std::uint64_t>(image.value().rows()->kept()) * 16384);
    for (std::uint32_t row = 0; row < embedding.rows; row += 8) ASSERT_TRUE(image.value().rows()->block(row));
    EXPECT_LE(allocated(image.value().memfd()), part.resident + 3 * pages) << "rows are not put there";
}

// The frame of the file that holds a row's codes.
FrameEntry frame_of(const std::string& path, const Image& image, std::uint32_t row, std::uint32_t* number = nullptr) {
    const auto file = StoredFile::open(path.c_str(), open(path.c_str(), O_RDONLY), image.sizes().file);
    const TensorEntry& t = image.rows()->tensor();
    const std::uint32_t i = file.value().frame_at(t.codes + row / 8 * (t.codes_size / ((t.rows + 7) / 8)));
    if (number != nullptr) *number = i;
    return file.value().frames()[i];
}

TEST(OnDemand, ADamagedFrameIsAnErrorOfThatRowAlone) {
    const TemporaryFolder folder;
    const std::string path = write(folder, Untied(Kind::i4));
    const auto image = Image::open(path.c_str(), on_demand);
    ASSERT_TRUE(image) << image.error().text;
    Rows& rows = *image.value().rows();
    ASSERT_TRUE(rows.block(0));
    std::uint32_t number = 0;
    const FrameEntry frame = frame_of(path, image.value(), 4000, &number);
    const int fd = open(path.c_str(), O_RDWR);
    const auto flip = [&] {
        char byte;
        ASSERT_EQ(pread(fd, &byte, 1, static_cast<off_t>(frame.offset + frame.stored / 2)), 1);
        byte ^= 1;
        ASSERT_EQ(pwrite(fd, &byte, 1, static_cast<off_t>(frame.offset + frame.stored / 2)), 1);
    };
    flip();
    for (int i = 0; i < 2; i++) {
        const auto damaged = rows.block(4000);
        ASSERT_FALSE(damaged);
        EXPECT_EQ(damaged.error().code, Code::model_integrity);
        const std::string text = damaged.error().text;
        EXPECT_NE(text.find("frame " + std::to_string(number) + " of "), std::string::npos) << text;
        EXPECT_NE(text.find("token_embd codes): CRC mismatch"), std::string::npos) << text;
        EXPECT_TRUE(rows.block(0));
    }
    flip();
    EXPECT_TRUE(rows.block(4000));
    close(fd);
}

TEST(OnDemand, AFileThatIsGoneOrCutShort) {
    const TemporaryFolder folder;
    const std::string path = write(folder, Untied(Kind::i4));
    const auto whole = Image::open(path.c_str(), {}), image = Image::open(path.c_str(), on_demand);
    ASSERT_TRUE(whole);
    ASSERT_TRUE(image);
    Rows& rows = *image.value().rows();
    const FrameEntry frame = frame_of(path, image.value(), 3000);
    const int fd = open(path.c_str(), O_RDWR);
    // Removed, or replaced by rename: what was opened is still there.
    ASSERT_EQ(unlink(path.c_str()), 0);
    const auto block = rows.block(2000);
    ASSERT_TRUE(block) << block.error().text;
    expect_block(whole.value().tensor("token_embd").value(), 2000, block.value());
    ASSERT_EQ(ftruncate(fd, static_cast<off_t>(frame.offset + 100)), 0);
    const auto cut = rows.block(3000);
    ASSERT_FALSE(cut);
    EXPECT_EQ(cut.error().code, Code::model_integrity);
    EXPECT_NE(std::string(cut.error().text).find("(token_embd codes): the file ends inside it"), std::string::npos)
        << cut.error().text;
    EXPECT_TRUE(rows.block(2000));
    close(fd);
}

TEST(OnDemand, MemoryThatWasKeptIsTakenWithTheFile) {
    const TemporaryFolder folder;
    const Untied untied(Kind::i8);
    const std::string path = write(folder, untied);
    const auto whole = Image::open(path.c_str(), {});
    ASSERT_TRUE(whole);
    int kept = -1;
    std::uint64_t taken = 0;
    {
        const auto image = Image::open(path.c_str(), on_demand);
        ASSERT_TRUE(image);
        kept = dup(image.value().memfd());
        taken = allocated(kept);
    }
    const auto image = Image::adopt(path.c_str(), kept, on_demand);
    ASSERT_TRUE(image) << image.error().text;
    EXPECT_EQ(allocated(kept), taken) << "its holes are still holes";
    EXPECT_EQ(image.value().footprint(Residency::on_demand).rows,
              Image::open_index(path.c_str()).value().footprint(Residency::on_demand).rows);
    ASSERT_NE(image.value().rows(), nullptr);
    for (const std::uint32_t row : {0u, 1234u, 5002u}) {
        const auto block = image.value().rows()->block(row);
        ASSERT_TRUE(block) << block.error().text;
        expect_block(whole.value().tensor("token_embd").value(), row, block.value());
    }
}

TEST(OnDemand, ARawImageIsMappedAsEver) {
    const TemporaryFolder folder;
    const auto image = Image::open(write(folder, Untied(Kind::i8), {.raw = true}).c_str(), on_demand);
    ASSERT_TRUE(image) << image.error().text;
    EXPECT_EQ(image.value().rows(), nullptr);
    const auto codes = image.value().tensor("token_embd").value().codes;
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    EXPECT_EQ(codes.size(), 5008u * 960);
    EXPECT_EQ(image.value().footprint(Residency::on_demand).resident, image.value().sizes().raw);
    // It was read to be checked, and its pages are not in the page table any more: /proc/self/pagemap has a bit a page.
    const int pagemap = open("/proc/self/pagemap", O_RDONLY);
    std::uint64_t entry = ~0ull;
    const auto middle = (reinterpret_cast<std::uintptr_t>(codes.data()) + codes.size() / 2) / page;
    ASSERT_EQ(pread(pagemap, &entry, sizeof entry, static_cast<off_t>(middle * sizeof entry)),
              static_cast<ssize_t>(sizeof entry));
    EXPECT_EQ(entry >> 63, 0u);
    (void)*static_cast<const volatile std::byte*>(codes.data() + codes.size() / 2);
    ASSERT_EQ(pread(pagemap, &entry, sizeof entry, static_cast<off_t>(middle * sizeof entry)),
              static_cast<ssize_t>(sizeof entry));
    EXPECT_EQ(entry >> 63, 1u);
    close(pagemap);
}

TEST(OnDemand, ATiedEmbeddingIsRefused) {
    const TemporaryFolder folder;
    Untied untied(Kind::i8, 64);
    untied.contents.params.flags |= flag_tied_output;
    const auto written = pack::write_image(folder / "m.slm", untied.contents, {});
    ASSERT_FALSE(written);
    EXPECT_NE(std::string(written.error().text).find("token_embd is the output matrix"), std::string::npos)
        << written.error().text;
}

// Images of before have no tensor that says it: nothing changes for them.
TEST(OnDemand, OnlyWhatSaysSo) {
    const TemporaryFolder folder;
    Untied untied(Kind::i8, 64);
    for (auto& t : untied.contents.tensors) t.residency = 0;
    const auto image = Image::open(write(folder, untied).c_str(), on_demand);
    ASSERT_TRUE(image) << image.error().text;
    EXPECT_EQ(image.value().rows(), nullptr);
    EXPECT_EQ(allocated(image.value().memfd()),
              round_up(image.value().sizes().raw, static_cast<std::size_t>(sysconf(_SC_PAGESIZE))));
}

constexpr OpenOptions streamed{.threads = 2, .residency = Residency::streamed};

// Layers of several frames, of different sizes, with vectors between the matrices.
struct Deep : Synthetic {
    explicit Deep(std::uint32_t layers) {
        contents.tensors.clear();
        data.clear();
        add("token_embd", Kind::i8, 100, 64);
        contents.tensors.back().residency = residency_on_demand;
        for (std::uint32_t i = 0; i < layers; i++) {
            const std::string layer = "blk." + std::to_string(i) + ".";
            add(layer + "attn_norm", Kind::f32, 1, 70);
            add(layer + "attn_q", Kind::i4, 1200 + 100 * i, 960);
            add(layer + "ffn_norm", Kind::f32, 1, 70);
            add(layer + "ffn_up", i % 2 == 0 ? Kind::i8 : Kind::i4a, 300, 700);
        }
        add("output", Kind::i4, 100, 64);
    }
};

void expect_layer(const Image& whole, const Image& image, int layer) {
    for (const TensorEntry& e : whole.tensors()) {
        if (layer_of(e) != layer) continue;
        const Tensor want = whole.tensor(e.name).value(), have = image.tensor(e.name).value();
        const std::pair<std::span<const std::byte>, std::span<const std::byte>> streams[] = {
            {want.codes, have.codes}, {want.scales, have.scales}, {want.steps, have.steps}};
        for (const auto& [a, b] : streams) {
            ASSERT_EQ(a.size(), b.size()) << e.name;
            EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin())) << e.name;
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.data()) % 64, 0u) << e.name;
        }
    }
}

TEST(Streamed, EveryLayerIsThereWhenItIsAcquired) {
    for (const int layers : {1, 2, 3, 4}) {
        const TemporaryFolder folder;
        const std::string path = write(folder, Deep(static_cast<std::uint32_t>(layers)));
        std::atomic<std::uint64_t> frames{0};
        OpenOptions options = streamed;
        options.frames = &frames;
        const auto whole = Image::open(path.c_str(), {}), image = Image::open(path.c_str(), options);
        ASSERT_TRUE(whole) << whole.error().text;
        ASSERT_TRUE(image) << image.error().text;
        Layers& stream = *image.value().layers();
        for (int pass = 0; pass < 5; pass++) {
            // Some passes are stopped.
            for (int layer = 0; layer < (pass == 2 ? layers / 2 : layers); layer++) {
                const auto there = stream.acquire(layer);
                ASSERT_TRUE(there) << there.error().text;
                expect_layer(whole.value(), image.value(), layer);
            }
            if (pass != 2) stream.rewind();
        }
        EXPECT_EQ(frames.load(), stream.decoded());
        EXPECT_GT(stream.bytes_per_second(), 0);
        EXPECT_EQ(stream.pass_bytes(), image.value().footprint(Residency::streamed).pass);
    }
}

TEST(Streamed, APassReadsEveryLayerOnce) {
    for (const int layers : {2, 4, 5}) {
        const TemporaryFolder folder;
        const std::string path = write(folder, Deep(static_cast<std::uint32_t>(layers)));
        const auto image = Image::open(path.c_str(), streamed);
        ASSERT_TRUE(image) << image.error().text;
        Layers& stream = *image.value().layers();
        const std::uint64_t first = stream.decoded();  // layers 0 and 1
        EXPECT_GT(first, 4u);
        std::uint64_t frames = 0;  // of all layers
        const auto file = StoredFile::open(path.c_str(), open(path.c_str(), O_RDONLY), image.value().sizes().file);
        const auto absent = absent_frames("", file.value(), image.value().tensors(), Residency::streamed);
        ASSERT_TRUE(absent);
        for (std::size_t i = 0; i < file.value().frames().size(); i++) frames += absent.value()[i] != 0;
        frames -= 2;  // codes and scales of the embedding
        constexpr int passes = 5;
        for (int pass = 0; pass < passes; pass++) {
            for (int layer = 0; layer < layers; layer++) ASSERT_TRUE(stream.acquire(layer));
            stream.rewind();
        }
        const std::uint64_t expected = layers == 2 ? frames : first + passes * frames;  // two layers fit, and stay
        for (int i = 0; i < 1000 && stream.decoded() < expected; i++) usleep(10'000);
        EXPECT_EQ(stream.decoded(), expected) << layers << " layers";
    }
}

TEST(Streamed, MemoryIsWhatTheFootprintSays) {
    const TemporaryFolder folder;
    const std::string path = write(folder, Deep(8));
    const auto image = Image::open(path.c_str(), streamed);
    ASSERT_TRUE(image) << image.error().text;
    const Footprint whole = image.value().footprint(Residency::whole),
                    part = image.value().footprint(Residency::streamed);
    const auto pages = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    std::uint64_t matrices = 0, largest = 0;
    std::map<int, std::uint64_t> of_layer;
    for (const TensorEntry& t : image.value().tensors()) {
        if (!is_absent(t, Residency::streamed)) continue;
        matrices += t.codes_size + t.scales_size + t.steps_size;
        if (layer_of(t) >= 0) largest = std::max(largest, of_layer[layer_of(t)] += t.codes_size + t.scales_size);
    }
    EXPECT_LE(part.resident, whole.resident - matrices);
    EXPECT_GE(part.layers, 2 * largest);
    // Each hole has two ends.
    EXPECT_LE(allocated(image.value().memfd()), part.resident + 2 * pages * (2 * 8 + 2));
    for (int layer = 0; layer < 8; layer++) ASSERT_TRUE(image.value().layers()->acquire(layer));
    EXPECT_LE(allocated(image.value().memfd()), part.resident + 2 * pages * (2 * 8 + 2));
}

TEST(Streamed, ADamagedLayerIsNamedAtTheStartAndLater) {
    const TemporaryFolder folder;
    const std::string path = write(folder, Deep(4));
    const auto whole = Image::open(path.c_str(), {}), image = Image::open(path.c_str(), streamed);
    ASSERT_TRUE(whole);
    ASSERT_TRUE(image) << image.error().text;
    const auto file = StoredFile::open(path.c_str(), open(path.c_str(), O_RDONLY), image.value().sizes().file);
    const int fd = open(path.c_str(), O_RDWR);
    const auto flip = [&](const char* name) {
        for (const TensorEntry& t : image.value().tensors()) {
            if (std::string(t.name) != name) continue;
            const FrameEntry& e = file.value().frames()[file.value().frame_at(t.scales)];
            char byte;
            ASSERT_EQ(pread(fd, &byte, 1, static_cast<off_t>(e.offset + e.stored - 1)), 1);
            byte ^= 1;
            ASSERT_EQ(pwrite(fd, &byte, 1, static_cast<off_t>(e.offset + e.stored - 1)), 1);
        }
    };
    Layers& stream = *image.value().layers();
    flip("blk.2.ffn_up");
    ASSERT_TRUE(stream.acquire(0));
    ASSERT_TRUE(stream.acquire(1));
    const auto damaged = stream.acquire(2);
    ASSERT_FALSE(damaged);
    EXPECT_EQ(damaged.error().code, Code::model_integrity);
    EXPECT_NE(std::string(damaged.error().text).find("blk.2.ffn_up scales): CRC mismatch"), std::string::npos)
        << damaged.error().text;
    flip("blk.2.ffn_up");
    for (const int layer : {0, 1, 2, 3}) {
        ASSERT_TRUE(stream.acquire(layer));
        expect_layer(whole.value(), image.value(), layer);
    }
    flip("blk.1.ffn_up");
    const auto at_start = Image::open(path.c_str(), streamed);
    ASSERT_FALSE(at_start);
    EXPECT_NE(std::string(at_start.error().text).find("blk.1.ffn_up scales"), std::string::npos);
    close(fd);
}

TEST(Streamed, LayersThatDoNotFollowEachOtherAreRefused) {
    const TemporaryFolder folder;
    Deep deep(3);
    std::swap(deep.contents.tensors[2], deep.contents.tensors[6]);
    const std::string path = write(folder, deep);
    ASSERT_TRUE(Image::open(path.c_str(), {}));
    const auto refused = Image::open(path.c_str(), streamed);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::model_format);
    EXPECT_NE(std::string(refused.error().text).find("layers do not follow each other"), std::string::npos)
        << refused.error().text;
}

}  // namespace
}  // namespace slmd::test
