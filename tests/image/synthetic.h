// A small model image of random values, every kind and awkward shapes, made by the real writer.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "image/check.h"
#include "toolchain/slmpack/image/half.h"
#include "toolchain/slmpack/image/writer.h"

namespace slmd::test {

// A folder that goes with the test.
struct TemporaryFolder {
    std::string path;
    TemporaryFolder() {
        // In memory where there is such a folder: ext4 waits for the disk whenever a file is written anew.
        path = access("/dev/shm", W_OK) == 0 ? "/dev/shm/slmd-image-XXXXXX" : "/tmp/slmd-image-XXXXXX";
        if (mkdtemp(path.data()) == nullptr) std::abort();
    }
    ~TemporaryFolder() { std::filesystem::remove_all(path); }
    std::string operator/(const std::string& file) const { return path + "/" + file; }
};

inline std::vector<char> read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}
inline void write_file(const std::string& path, const std::vector<char>& bytes) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// Puts a header back into a raw image, with the hash of its index as it now is.
inline void rehash(std::vector<char>& bytes, image::RawHeader& header) {
    const image::Section& index = *image::find_section(header, image::SectionId::index);
    const auto digest = sha256(std::as_bytes(std::span(bytes)).subspan(index.offset, index.size));
    std::memcpy(header.index_sha256, digest.value().data(), 32);
    std::memcpy(bytes.data(), &header, sizeof header);
}
// Makes of a raw image one as slmpack wrote them before there were hashes: the reserved bytes are zero.
inline image::RawHeader remove_hashes(std::vector<char>& bytes) {
    image::RawHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    std::memset(header.section_sha256, 0, sizeof header.section_sha256);
    const image::Section& index = *image::find_section(header, image::SectionId::index);
    for (std::uint32_t i = 0; i < header.tensor_count; i++)
        std::memset(bytes.data() + index.offset + i * sizeof(image::TensorEntry) + offsetof(image::TensorEntry, sha256),
                    0, 28);
    rehash(bytes, header);
    return header;
}

inline pack::TensorData random_tensor(image::Kind kind, std::uint32_t rows, std::uint32_t cols, unsigned seed) {
    std::mt19937 random(seed);
    const std::size_t groups = (cols + 31) / 32, n = std::size_t{rows} * cols;
    pack::TensorData t{.kind = kind, .rows = rows, .cols = cols};
    // Peaked codes, so that zstd has something to win and both ways of storing a frame occur.
    const auto code = [](std::mt19937& r) { return std::popcount(r() & 0x7fffu); };
    std::uniform_int_distribution<int> byte(-127, 127), index(0, 255), level(-31, 31);
    std::normal_distribution<float> value;
    if (kind == image::Kind::f32)
        for (std::size_t i = 0; i < n; i++) t.values.push_back(value(random));
    else
        for (std::size_t i = 0; i < n; i++)
            t.codes.push_back(static_cast<std::int8_t>(kind == image::Kind::i8   ? byte(random)
                                                       : kind == image::Kind::i6 ? 4 * code(random) - 32
                                                                                 : code(random)));
    if (kind == image::Kind::i4) {
        for (std::size_t i = 0; i < rows * groups; i++) t.indices.push_back(static_cast<std::uint8_t>(index(random)));
        for (std::size_t i = 0; i < rows; i++) t.steps.push_back(value(random));
        for (auto& b : t.book) b = static_cast<std::int8_t>(level(random));
    }
    if (kind == image::Kind::i4a || kind == image::Kind::i6 || kind == image::Kind::i8)
        for (std::size_t i = 0; i < rows * groups; i++) t.scales.push_back(pack::to_half(value(random)));
    if (kind == image::Kind::i4a)
        for (std::size_t i = 0; i < rows * groups; i++) t.minimums.push_back(pack::to_half(value(random)));
    return t;
}

struct Synthetic {
    pack::ImageContents contents;
    std::map<std::string, pack::TensorData> data;

    void add(const std::string& name, image::Kind kind, std::uint32_t rows, std::uint32_t cols) {
        contents.tensors.push_back({name, kind, rows, cols});
        data[name] = random_tensor(kind, rows, cols, static_cast<unsigned>(data.size()) + 1);
    }
    // large: more than one frame a stream.
    explicit Synthetic(bool large = false) {
        using image::Kind;
        std::strcpy(contents.params.name, "synthetic");
        std::strcpy(contents.params.family, "llama");
        for (int i = 0; i < 70000; i++) contents.tokenizer.push_back(static_cast<std::byte>(i * 1L * i >> 7));
        for (char c : std::string("a template")) contents.chat.push_back(static_cast<std::byte>(c));
        add("rope.inv_freq", Kind::f32, 1, 32);
        add("blk.0.attn_norm", Kind::f32, 1, 70);
        add("blk.0.attn_q", Kind::i4, 13, 70);
        add("blk.0.attn_k", Kind::i4a, 8, 96);
        add("blk.0.ffn_up", Kind::i8, 21, 33);
        add("blk.0.ffn_down", Kind::i4, 1, 1);
        add("blk.0.attn_v", Kind::i6, 19, 70);
        if (large) {
            add("blk.1.ffn_up", Kind::i4a, 1030, 1600);
            add("token_embd", Kind::i8, 600, 1024);
        }
        contents.tensor = [this](const pack::TensorSpec& spec) -> Result<pack::TensorData> {
            return data.at(spec.name);
        };
        contents.provenance = [] { return std::string("{\"source\":\"synthetic\"}"); };
    }
    Synthetic(const Synthetic&) = delete;
};

}  // namespace slmd::test
