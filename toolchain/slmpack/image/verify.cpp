#include "verify.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "base/file.h"
#include "half.h"
#include "image/check.h"
#include "image/image.h"
#include "image/signature.h"
#include "image/stored.h"

namespace slmd::pack {
namespace {

using namespace image;

// The seek table repeats the frame table in the words of the zstd seekable format; the runtime does not read it.
void verify_seek_table(const StoredFile& file, std::span<const std::byte> bytes, std::vector<std::string>& problems) {
    const auto frames = file.frames();
    const FrameEntry& last = frames.back();
    ByteReader in(bytes.subspan(last.offset + last.stored));
    const auto count = static_cast<std::uint32_t>(frames.size());
    bool good = in.get<std::uint32_t>() == seek_table_magic && in.get<std::uint32_t>() == (count + 1) * 8 + 9 &&
                in.get<std::uint32_t>() == frames[0].offset && in.get<std::uint32_t>() == 0;
    for (const FrameEntry& e : frames) {
        const bool same = in.get<std::uint32_t>() == e.stored && in.get<std::uint32_t>() == e.raw;
        good = good && same;
    }
    good = good && in.get<std::uint32_t>() == count + 1 && in.get<std::uint8_t>() == 0 &&
           in.get<std::uint32_t>() == seekable_magic && in.ok();
    if (!good)
        problems.push_back(
            "seek table: does not agree with the frame table (slmd does not use it, other zstd tools do); copy the "
            "file again");
}

void verify_stored(const std::string& path, std::vector<std::string>& problems,
                   const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
    const auto index = Image::open_index(path.c_str());
    const auto map = MappedFile::open(path.c_str());
    if (!index || !map) {
        problems.push_back(!index ? index.error().text : map.error().text);
        return;
    }
    const auto bytes = map.value().bytes();
    auto file = StoredFile::open(path.c_str(), ::open(path.c_str(), O_RDONLY | O_CLOEXEC), bytes.size());
    if (!file) {
        problems.push_back(file.error().text);
        return;
    }
    RawHeader header;
    if (const auto read = file->read(path.c_str(), "header", 0, std::as_writable_bytes(std::span(&header, 1))); !read) {
        problems.push_back(read.error().text);
        return;
    }
    FrameDecoder decoder(*file);
    std::vector<std::byte> raw(frame_bytes);
    const auto count = static_cast<std::uint32_t>(file->frames().size());
    for (std::uint32_t i = 0; i < count; i++) {
        if (const FrameFault fault = decoder.decode(i, raw.data())) {
            char place[96];
            name_place(header, index.value().tensors(), file->raw_offset(i),
                       file->raw_offset(i) + file->frames()[i].raw, place, sizeof place);
            problems.push_back(frame_error(path.c_str(), *file, i, place, fault).text);
        }
        if (progress) progress(file->raw_offset(i) + file->frames()[i].raw, file->header().raw_size);
    }
    verify_seek_table(*file, bytes, problems);
}

// The first value that cannot be, as text; empty when all are sound.
std::string verify_values(const Tensor& t) {
    const auto halves = [&](std::span<const std::byte> s) {
        for (std::size_t i = 0; i + 2 <= s.size(); i += 2)
            if (!std::isfinite(from_half(load<std::uint16_t>(s.data() + i)))) return false;
        return true;
    };
    const auto floats = [&](std::span<const std::byte> s) {
        for (std::size_t i = 0; i + 4 <= s.size(); i += 4)
            if (!std::isfinite(load<float>(s.data() + i))) return false;
        return true;
    };
    switch (t.kind) {
        case Kind::f32: return floats(t.codes) ? "" : "a value is not finite";
        case Kind::i4: return floats(t.steps) ? "" : "a step is not finite";
        case Kind::i4a: return halves(t.scales) ? "" : "a scale or minimum is not finite";
        case Kind::i6: return halves(t.scales) ? "" : "a scale is not finite";
        case Kind::i8:
            if (!halves(t.scales)) return "a scale is not finite";
            return std::memchr(t.codes.data(), 0x80, t.codes.size()) == nullptr
                       ? ""
                       : "a code is -128 (the range is -127..127)";
    }
    return "unknown kind";
}

}  // namespace

std::vector<std::string> verify_image(const std::string& path,
                                      const std::function<void(std::uint64_t, std::uint64_t)>& progress,
                                      std::span<const PublicKey> keys) {
    std::vector<std::string> problems;
    const auto sizes = Image::sizes(path.c_str());
    if (!sizes) return {sizes.error().text};
    if (sizes.value().compressed) verify_stored(path, problems, progress);
    if (!problems.empty()) return problems;
    const OpenOptions options{.threads = 4};
    const auto image = Image::open(path.c_str(), options);
    if (!image) return {image.error().text};
    const RawHeader& header = image.value().header();
    if (!keys.empty())
        if (const auto ok = verify_signature(path.c_str(), header, keys); !ok) problems.push_back(ok.error().text);
    if (has_hashes(header)) {
        const auto ok = verify_hashes(path.c_str(), header, image.value().tensors(), image.value().raw(), options);
        if (!ok) problems.push_back(ok.error().text);
    }
    for (const TensorEntry& entry : image.value().tensors()) {
        const auto tensor = image.value().tensor(entry.name);
        const std::string wrong = tensor ? verify_values(tensor.value()) : tensor.error().text;
        if (!wrong.empty()) problems.push_back(path + ": tensor " + entry.name + ": " + wrong);
    }
    return problems;
}

}  // namespace slmd::pack
