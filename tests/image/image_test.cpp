// The image: what the writer puts in comes out bit for bit, in both forms, and what is damaged is refused with the
// place named.
#include "image/image.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "image/layout.h"
#include "image/stored.h"
#include "synthetic.h"
#include "toolchain/slmpack/image/verify.h"
#include "unpack.h"

namespace slmd::test {
namespace {

using image::Image;
using image::Kind;

std::string write(const TemporaryFolder& folder, const std::string& name, const Synthetic& s,
                  pack::WriteOptions options = {}) {
    const std::string path = folder / name;
    const auto written = pack::write_image(path, s.contents, options);
    EXPECT_TRUE(written) << written.error().text;
    return path;
}

std::vector<char> bytes_of(std::span<const std::byte> s) {
    const auto* p = reinterpret_cast<const char*>(s.data());
    return {p, p + s.size()};
}

void expect_same(const image::Tensor& t, const pack::TensorData& want) {
    ASSERT_EQ(t.rows, want.rows);
    ASSERT_EQ(t.cols, want.cols);
    if (t.kind == Kind::f32) {
        ASSERT_EQ(std::memcmp(t.codes.data(), want.values.data(), t.codes.size()), 0) << t.name;
        return;
    }
    const std::size_t groups = (t.cols + 31) / 32;
    for (std::uint32_t r = 0; r < t.rows; r++) {
        for (std::uint32_t c = 0; c < t.cols; c++) {
            const Element e = element(t, r, c);
            ASSERT_EQ(e.code, want.codes[r * t.cols + c]) << t.name << " row " << r << " column " << c;
            const std::size_t g = r * groups + c / 32;
            if (t.kind == Kind::i4) {
                ASSERT_EQ(at<std::uint8_t>(t.scales, e.group), want.indices[g]);
            }
            if (t.kind == Kind::i8 || t.kind == Kind::i6) {
                ASSERT_EQ(at<std::uint16_t>(t.scales, e.group), want.scales[g]);
            }
            if (t.kind == Kind::i4a) {
                const std::size_t cell = e.group / 8, lane = e.group % 8;
                ASSERT_EQ(at<std::uint16_t>(t.scales, cell * 16 + lane), want.scales[g]);
                ASSERT_EQ(at<std::uint16_t>(t.scales, cell * 16 + 8 + lane), want.minimums[g]);
            }
        }
        if (t.kind == Kind::i4) {
            ASSERT_EQ(at<float>(t.steps, r), want.steps[r]);
        }
    }
    if (t.kind == Kind::i4) {
        EXPECT_EQ(std::memcmp(t.book, want.book.data(), 16), 0);
    }
}

void expect_all(const Image& image, const Synthetic& s) {
    ASSERT_EQ(image.tensors().size(), s.contents.tensors.size());
    for (const auto& [name, data] : s.data) {
        const auto t = image.tensor(name);
        ASSERT_TRUE(t) << t.error().text;
        expect_same(t.value(), data);
    }
    EXPECT_EQ(bytes_of(image.section(image::SectionId::tokenizer)), bytes_of(s.contents.tokenizer));
    EXPECT_EQ(bytes_of(image.section(image::SectionId::chat)), bytes_of(s.contents.chat));
    EXPECT_STREQ(image.params().name, "synthetic");
}

TEST(Image, RoundTripOfEveryKindInBothForms) {
    const TemporaryFolder folder;
    const Synthetic s(true);
    const std::string stored = write(folder, "m.slm", s), raw = write(folder, "m.raw", s, {.raw = true});
    for (const int threads : {1, 2, 5}) {
        auto image = Image::open(stored.c_str(), {.threads = threads});
        ASSERT_TRUE(image) << image.error().text;
        EXPECT_TRUE(image->sizes().compressed);
        expect_all(*image, s);
        EXPECT_EQ(bytes_of(image->raw()), read_file(raw)) << "the decoded image is the raw form";
    }
    auto image = Image::open(raw.c_str(), {});
    ASSERT_TRUE(image) << image.error().text;
    EXPECT_EQ(image->memfd(), -1);
    EXPECT_FALSE(image->sizes().compressed);
    expect_all(*image, s);
    EXPECT_FALSE(image->tensor("blk.7.attn_q"));
    EXPECT_TRUE(image->has("token_embd"));
}

TEST(Image, EveryThresholdGivesTheSameRawBytes) {
    const TemporaryFolder folder;
    const Synthetic s(true);
    std::vector<char> first;
    std::vector<std::size_t> sizes;
    for (const double saving : {0.0, 0.05, 1.0}) {
        const std::string path = write(folder, "m.slm", s, {.least_saving = saving});
        auto image = Image::open(path.c_str(), {.threads = 2});
        ASSERT_TRUE(image) << image.error().text;
        if (first.empty()) first = bytes_of(image->raw());
        EXPECT_EQ(bytes_of(image->raw()), first);
        sizes.push_back(image->sizes().file);
    }
    EXPECT_LT(sizes[0], sizes[2]) << "the threshold does something";
}

TEST(Image, IsAnOrdinaryZstdFile) {
    const TemporaryFolder folder;
    const Synthetic s(true);
    const std::string stored = write(folder, "m.slm", s), raw = write(folder, "m.raw", s, {.raw = true});
    if (std::system("zstd --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no zstd program here";
    ASSERT_EQ(std::system(("zstd -dcq " + stored + " > " + (folder / "out")).c_str()), 0);
    EXPECT_EQ(read_file(folder / "out"), read_file(raw));
    EXPECT_EQ(std::system(("zstd -tq " + stored).c_str()), 0);
}

TEST(Image, TheSameInputGivesTheSameBytes) {
    const TemporaryFolder folder;
    const Synthetic a(true), b(true);
    EXPECT_EQ(read_file(write(folder, "a.slm", a)), read_file(write(folder, "b.slm", b)));
}

TEST(Image, MemoryIsSealed) {
    const TemporaryFolder folder;
    auto image = Image::open(write(folder, "m.slm", Synthetic()).c_str(), {});
    ASSERT_TRUE(image);
    const int seals = fcntl(image->memfd(), F_GET_SEALS);
    EXPECT_EQ(seals, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    EXPECT_EQ(pwrite(image->memfd(), "x", 1, 0), -1);
    EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, image->memfd(), 0), MAP_FAILED);
}

TEST(Image, IndexAloneTellsThePlan) {
    const TemporaryFolder folder;
    const Synthetic s;
    for (const bool raw : {false, true}) {
        auto image = Image::open_index(write(folder, "m", s, {.raw = raw}).c_str());
        ASSERT_TRUE(image) << image.error().text;
        EXPECT_STREQ(image->params().family, "llama");
        ASSERT_EQ(image->tensors().size(), s.contents.tensors.size());
        EXPECT_TRUE(image->raw().empty());
        EXPECT_TRUE(image->section(image::SectionId::tokenizer).empty());
        const auto t = image->tensor("blk.0.attn_q");
        ASSERT_TRUE(t);
        EXPECT_TRUE(t.value().codes.empty());
        EXPECT_EQ(t.value().rows, 13u);
    }
}

TEST(Image, ProgressEndsAtTheWhole) {
    const TemporaryFolder folder;
    const std::string path = write(folder, "m.slm", Synthetic(true));
    struct Seen {
        std::uint64_t calls = 0, last = 0, total = 0;
        bool falling = false;
    } seen;
    auto image = Image::open(path.c_str(), {.progress =
                                                [](void* context, std::uint64_t done, std::uint64_t total) {
                                                    auto& s = *static_cast<Seen*>(context);
                                                    s.calls++;
                                                    s.falling |= done < s.last;
                                                    s.last = done;
                                                    s.total = total;
                                                },
                                            .context = &seen});
    ASSERT_TRUE(image);
    EXPECT_GT(seen.calls, 3u);
    EXPECT_FALSE(seen.falling);
    EXPECT_EQ(seen.last, image->sizes().raw);
    EXPECT_EQ(seen.total, image->sizes().raw);
}

// ---- damage

bool opens_right(const std::string& path, const Synthetic& s) {
    auto image = Image::open(path.c_str(), {.threads = 2});
    if (!image) {
        EXPECT_NE(std::string(image.error().text).find(path), std::string::npos)
            << "the error names the file: " << image.error().text;
        return false;
    }
    expect_all(*image, s);
    return true;
}

TEST(Damage, TruncatedAnywhereIsRefused) {
    const TemporaryFolder folder;
    const Synthetic s;
    const std::string stored = write(folder, "m.slm", s), raw = write(folder, "m.raw", s, {.raw = true}),
                      cut = folder / "cut";
    auto index = Image::open_index(stored.c_str());
    ASSERT_TRUE(index);
    auto file = image::StoredFile::open(stored.c_str(), ::open(stored.c_str(), O_RDONLY), index->sizes().file);
    ASSERT_TRUE(file);
    std::vector<std::size_t> ends = {
        0, 1, 7, 8, 40, 8 + sizeof(image::StoredHeader), 8 + sizeof(image::StoredHeader) + 24};
    for (const auto& f : file->frames())
        for (const std::size_t end : {f.offset, f.offset + f.stored / 2, f.offset + f.stored}) ends.push_back(end);
    const auto whole = read_file(stored);
    ends.push_back(whole.size() - 1);
    for (const std::size_t end : ends) {
        write_file(cut, {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(end)});
        EXPECT_FALSE(opens_right(cut, s)) << "cut at " << end;
        EXPECT_FALSE(Image::open_index(cut.c_str()));
        EXPECT_FALSE(pack::verify_image(cut).empty());
    }
    const auto raw_bytes = read_file(raw);
    for (std::size_t end = 0; end < raw_bytes.size(); end += end < 4200 ? 700 : 65536 / 2) {
        write_file(cut, {raw_bytes.begin(), raw_bytes.begin() + static_cast<std::ptrdiff_t>(end)});
        EXPECT_FALSE(opens_right(cut, s)) << "raw cut at " << end;
    }
    auto longer = whole;
    longer.push_back(0);
    write_file(cut, longer);
    EXPECT_FALSE(opens_right(cut, s));
}

TEST(Damage, EveryFlippedBitIsAnErrorOrHarmless) {
    const TemporaryFolder folder;
    const Synthetic s;
    const std::string stored = write(folder, "m.slm", s), bad = folder / "bad";
    auto whole = read_file(stored);
    const std::size_t seek_table = [&] {
        auto file = image::StoredFile::open(stored.c_str(), ::open(stored.c_str(), O_RDONLY), whole.size());
        return file->frames().back().offset + file->frames().back().stored;
    }();
    std::mt19937 random(7);
    // Every byte of header, frame table, first frame's front and seek table; a sample of the rest.
    std::size_t refused = 0, harmless = 0;
    const auto next = [&](std::size_t i) {
        if (i < 1200 || i >= seek_table) return i + 1;
        return std::min(i + 1 + random() % 997, seek_table);
    };
    for (std::size_t i = 0; i < whole.size(); i = next(i)) {
        const char old = whole[i];
        whole[i] = static_cast<char>(old ^ (1 << random() % 8));
        write_file(bad, whole);
        if (opens_right(bad, s)) {
            harmless++;
            EXPECT_GE(i, seek_table) << "only the seek table, which slmd does not read, may change unnoticed: byte "
                                     << i;
        } else {
            refused++;
        }
        EXPECT_FALSE(pack::verify_image(bad).empty()) << "verify sees everything: byte " << i;
        whole[i] = old;
    }
    EXPECT_GT(refused, 1000u);
    EXPECT_GT(harmless, 10u);
}

TEST(Damage, NamesTheFrameAndTheTensor) {
    const TemporaryFolder folder;
    const Synthetic s(true);
    const std::string path = write(folder, "m.slm", s);
    auto whole = read_file(path);
    auto index = Image::open_index(path.c_str());
    auto file = image::StoredFile::open(path.c_str(), ::open(path.c_str(), O_RDONLY), whole.size());
    ASSERT_TRUE(index && file);
    for (const auto& t : index->tensors()) {
        const std::uint32_t frame = file->frame_at(t.codes);
        auto bad = whole;
        bad[file->frames()[frame].offset + file->frames()[frame].stored - 1] ^= 4;
        write_file(path, bad);
        const auto image = Image::open(path.c_str(), {.threads = 2});
        ASSERT_FALSE(image);
        const std::string text = image.error().text;
        EXPECT_EQ(image.error().code, Code::model_integrity);
        EXPECT_NE(text.find("frame " + std::to_string(frame) + " of "), std::string::npos) << text;
        EXPECT_NE(text.find(std::string(t.name) + (t.kind == Kind::f32 ? " values" : " codes")), std::string::npos)
            << text;
        EXPECT_NE(text.find("CRC mismatch"), std::string::npos) << text;
    }
}

// A forger who recomputes CRCs and hashes: the structure itself is checked. Works on the raw form, whose index hash it
// repairs.
TEST(Damage, HostileIndexIsRefused) {
    const TemporaryFolder folder;
    const Synthetic s;
    const std::string path = write(folder, "m.raw", s, {.raw = true});
    const auto whole = read_file(path);
    image::RawHeader header;
    std::memcpy(&header, whole.data(), sizeof header);
    std::uint64_t index_at = 0;
    for (std::uint32_t i = 0; i < header.section_count; i++)
        if (header.sections[i].id == 1) index_at = header.sections[i].offset;
    const auto refused = [&](const char* what, auto&& change) {
        auto bytes = whole;
        image::RawHeader h = header;
        auto* entries = reinterpret_cast<image::TensorEntry*>(bytes.data() + index_at);
        change(h, entries);
        std::memcpy(bytes.data(), &h, sizeof h);
        write_file(path, bytes);
        const auto image = Image::open(path.c_str(), {.verify = false});
        ASSERT_FALSE(image) << what;
        EXPECT_EQ(image.error().code, Code::model_format) << what << ": " << image.error().text;
    };
    using H = image::RawHeader;
    using E = image::TensorEntry;
    refused("newer", [](H& h, E*) { h.reader = h.version = image::reader_version + 1; });
    refused("section outside", [](H& h, E*) { h.sections[2].size = h.raw_size; });
    refused("section wraps", [](H& h, E*) { h.sections[2].offset = ~0ull << 16; });
    refused("section unaligned", [](H& h, E*) { h.sections[1].offset += 64; });
    refused("section twice", [](H& h, E*) { h.sections[1].id = h.sections[0].id; });
    refused("sections overlap", [](H& h, E*) { h.sections[1].offset = h.sections[0].offset; });
    refused("too many sections", [](H& h, E*) { h.section_count = 9; });
    refused("tensor count", [](H& h, E*) { h.tensor_count = 1u << 31; });
    refused("no tensors", [](H& h, E*) { h.tensor_count = 0; });
    refused("huge rows", [](H&, E* e) { e[2].rows = 0xffffffff; });
    refused("more rows", [](H&, E* e) { e[2].rows = 17; });
    refused("codes_size", [](H&, E* e) { e[3].codes_size -= 64; });
    refused("codes outside", [](H&, E* e) { e[3].codes = 1ull << 40; });
    refused("codes overlap", [](H&, E* e) { e[3].codes = e[2].codes; });
    refused("codes unaligned", [](H&, E* e) { e[3].codes += 1; });
    refused("codes in the header", [](H&, E* e) { e[0].codes = 0; });
    refused("kind", [](H&, E* e) { e[1].kind = static_cast<Kind>(9); });
    refused("signed in an unknown way", [](H& h, E*) { h.signature.type = static_cast<image::SignatureType>(2); });
    refused("not signed, but with a signature", [](H& h, E*) { h.signature.rs[40] = 1; });
    refused("not signed, but with a key", [](H& h, E*) { h.signature.key_id[0] = 1; });
    refused("something behind the signature", [](H& h, E*) {
        h.signature.type = image::SignatureType::ecdsa_p256_sha256;
        h.signature.zero[431] = 1;
    });
    refused("a section without its hash", [](H& h, E*) { std::memset(h.section_sha256[0], 0, 32); });
    refused("a hash without its section", [](H& h, E*) { h.section_sha256[7][0] = 1; });
    refused("a hash of the index, which has one", [](H& h, E*) { h.section_sha256[h.section_count - 1][0] = 1; });
    refused("a tensor without its hash", [](H&, E* e) { std::memset(e[1].sha256, 0, sizeof e[1].sha256); });
    refused("tensors with hashes, sections without",
            [](H& h, E*) { std::memset(h.section_sha256, 0, sizeof h.section_sha256); });
    refused("name twice", [](H&, E* e) { std::memcpy(e[1].name, e[0].name, sizeof e[1].name); });
    refused("endless name", [](H&, E* e) { std::memset(e[1].name, 'x', sizeof e[1].name); });
    refused("book", [](H&, E* e) { e[2].book[3] = 32; });
    write_file(path, whole);
    EXPECT_TRUE(Image::open(path.c_str(), {}));
}

TEST(Damage, NewerStoredVersionSaysWhatToDo) {
    const TemporaryFolder folder;
    const std::string path = write(folder, "m.slm", Synthetic());
    auto bytes = read_file(path);
    image::StoredHeader header;
    std::memcpy(&header, bytes.data() + 8, sizeof header);
    header.version = header.reader = image::reader_version + 1;
    std::memcpy(bytes.data() + 8, &header, sizeof header);
    write_file(path, bytes);
    const auto image = Image::open(path.c_str(), {});
    ASSERT_FALSE(image);
    EXPECT_EQ(image.error().code, Code::model_format);
    EXPECT_NE(std::string(image.error().text).find("update slmd"), std::string::npos) << image.error().text;
}

TEST(Damage, RawIndexHashIsChecked) {
    const TemporaryFolder folder;
    const Synthetic s;
    const std::string path = write(folder, "m.raw", s, {.raw = true});
    auto bytes = read_file(path);
    image::RawHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    bytes[header.sections[header.section_count - 1].offset + 150] ^= 1;  // a reserved byte of the first entry
    write_file(path, bytes);
    const auto damaged = Image::open(path.c_str(), {});
    ASSERT_FALSE(damaged);
    EXPECT_EQ(damaged.error().code, Code::model_integrity);
}

TEST(Damage, RawBytesAreChecked) {
    const TemporaryFolder folder;
    const Synthetic s;
    const std::string path = write(folder, "m.raw", s, {.raw = true});
    const auto whole = read_file(path);
    image::RawHeader header;
    std::memcpy(&header, whole.data(), sizeof header);
    int flipped = 0;
    const auto flip = [&](std::uint64_t at, const char* place) {
        auto bytes = whole;
        bytes[at] ^= 0x10;
        write_file(path, bytes);
        const auto damaged = Image::open(path.c_str(), {});
        ASSERT_FALSE(damaged) << place << " at " << at;
        EXPECT_NE(std::string(damaged.error().text).find(place), std::string::npos) << damaged.error().text;
        flipped++;
    };
    for (std::uint32_t i = 0; i < header.section_count; i++) {
        const image::Section& section = header.sections[i];
        const auto id = static_cast<image::SectionId>(section.id);
        if (id == image::SectionId::tokenizer) flip(section.offset + section.size / 2, "tokenizer");
        if (id == image::SectionId::provenance) flip(section.offset, "provenance");
        if (id != image::SectionId::index) continue;
        for (std::uint32_t t = 0; t < header.tensor_count; t++) {
            image::TensorEntry e;
            std::memcpy(&e, whole.data() + section.offset + t * sizeof e, sizeof e);
            flip(e.codes + e.codes_size - 1, e.name);
            if (e.scales_size != 0) flip(e.scales, e.name);
            if (e.steps_size != 0) flip(e.steps + 3, e.name);
        }
    }
    EXPECT_GT(flipped, 12);
    // Who says that the file is trusted gets it mapped without a look.
    EXPECT_TRUE(Image::open(path.c_str(), {.verify = false}));
}

TEST(Damage, OtherFilesAreNamed) {
    const TemporaryFolder folder;
    const std::string path = folder / "x";
    write_file(path, {'G', 'G', 'U', 'F', 3, 0, 0, 0, 0});
    auto gguf = Image::open(path.c_str(), {});
    ASSERT_FALSE(gguf);
    EXPECT_NE(std::string(gguf.error().text).find("slmpack import"), std::string::npos);
    write_file(path, {});
    EXPECT_FALSE(Image::open(path.c_str(), {}));
    auto absent = Image::open((folder / "absent").c_str(), {});
    ASSERT_FALSE(absent);
    EXPECT_EQ(absent.error().code, Code::storage_failure);
    EXPECT_FALSE(Image::open(folder.path.c_str(), {}));
}

TEST(Damage, TheFuzzTargetsSeedsAreWhole) {
    const TemporaryFolder folder;
    for (const char* seed : {"file", "stored"}) {
        auto bytes = read_file(std::string(SLMD_SOURCE) + "/tests/fuzz/seeds/image/" + seed);
        ASSERT_GT(bytes.size(), 1u);
        write_file(folder / seed, {bytes.begin() + 1, bytes.end()});
        const auto image = Image::open((folder / seed).c_str(), {});
        EXPECT_TRUE(image) << image.error().text;
    }
}

// ---- writing

TEST(Write, AFailureLeavesTheOldFile) {
    const TemporaryFolder folder;
    Synthetic s;
    const std::string path = write(folder, "m.slm", s);
    const auto before = read_file(path);
    s.contents.tensor = [&](const pack::TensorSpec& spec) -> Result<pack::TensorData> {
        if (spec.name == "blk.0.ffn_up") return Error::make(Code::storage_failure, "the source ends here");
        return s.data.at(spec.name);
    };
    const auto written = pack::write_image(path, s.contents, {});
    ASSERT_FALSE(written);
    EXPECT_STREQ(written.error().text, "tensor blk.0.ffn_up: the source ends here");
    EXPECT_EQ(read_file(path), before);
    std::size_t files = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path)) files++;
    EXPECT_EQ(files, 1u) << "no temporary file stays";
}

TEST(Write, ImpossibleContentsAreRefused) {
    const TemporaryFolder folder;
    const auto refused = [&](auto&& change) {
        Synthetic s;
        change(s);
        return !pack::write_image(folder / "m.slm", s.contents, {});
    };
    EXPECT_TRUE(refused([](Synthetic& s) { s.contents.tensors[0].name = std::string(56, 'x'); }));
    EXPECT_TRUE(refused([](Synthetic& s) { s.contents.tensors[1].name = s.contents.tensors[0].name; }));
    EXPECT_TRUE(refused([](Synthetic& s) { s.contents.tensors[0].rows = 0; }));
    EXPECT_TRUE(refused([](Synthetic& s) { s.contents.tensors.clear(); }));
    EXPECT_TRUE(refused([](Synthetic& s) { s.data["blk.0.attn_q"].cols = 69; }));
    EXPECT_FALSE(std::filesystem::exists(folder / "m.slm"));
}

}  // namespace
}  // namespace slmd::test
