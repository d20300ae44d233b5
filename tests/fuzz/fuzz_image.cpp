// LINK: slmd_engine slmd_image slmd_base
// The first byte chooses: 0 the rest is a file as it is; 1 a stored image whose checksums are made right, so that
// mutations reach the frames; 2 a raw image given as header (4096 bytes), params (256), index (the rest), opened
// without its hash. Every tensor that opens is read to its end, and hashed. Nothing opens for who wants a signature.
// What the engine would bind as an adapter points into the image.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "base/sha256.h"
#include "engine/adapter.h"
#include "image/image.h"
#include "image/layers.h"
#include "image/resident.h"
#include "image/rows.h"
#include "image/signature.h"

namespace {

using namespace slmd;
using namespace slmd::image;

void repair(std::vector<std::byte>& file) {
    StoredHeader header;
    constexpr std::size_t begin = 8 + sizeof header;
    if (file.size() < begin) return;
    std::memcpy(&header, file.data() + 8, sizeof header);
    header.stored_size = file.size();
    const std::size_t count = std::min<std::size_t>(header.frame_count, (file.size() - begin) / sizeof(FrameEntry));
    for (std::size_t i = 0; i < count; i++) {
        FrameEntry e;
        std::memcpy(&e, file.data() + begin + i * sizeof e, sizeof e);
        if (e.offset > file.size() || e.stored > file.size() - e.offset) continue;
        e.crc32c = crc32c(std::span(file).subspan(e.offset, e.stored));
        std::memcpy(file.data() + begin + i * sizeof e, &e, sizeof e);
    }
    const auto digest = sha256(std::span(file).subspan(begin, count * sizeof(FrameEntry)));
    if (digest) std::memcpy(header.frames_sha256, digest.value().data(), sizeof header.frames_sha256);
    std::memcpy(file.data() + 8, &header, sizeof header);
}

// A raw image from its parts: header at 0, params at 64 KiB, index at 128 KiB; its size as the header says, within 1
// MiB.
std::vector<std::byte> raw_from(std::span<const std::byte> parts) {
    RawHeader header{};
    std::memcpy(&header, parts.data(), std::min(parts.size(), sizeof header));
    std::vector<std::byte> file(std::min<std::uint64_t>(header.raw_size, 1 << 20));
    const auto put = [&](std::size_t at, std::size_t size) {
        const auto part = parts.first(std::min(size, parts.size()));
        parts = parts.subspan(part.size());
        if (at < file.size()) std::memcpy(file.data() + at, part.data(), std::min(part.size(), file.size() - at));
    };
    put(0, sizeof header);
    put(section_align, sizeof(ModelParams));
    put(2 * section_align, parts.size());
    return file;
}

// A key that has signed no seed: that of RFC 6979, A.2.5.
PublicKey a_key() {
    constexpr char text[] =
        "-----BEGIN PUBLIC KEY-----\n"
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7\n"
        "Yfps5mliLmDyn7Z5A/4QCLi8maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==\n"
        "-----END PUBLIC KEY-----\n";
    const auto key = parse_public_key("key", text);
    if (!key) std::abort();
    return key.value();
}

volatile std::uint8_t sink;

void read_all(std::span<const std::byte> bytes) {
    std::uint8_t x = 0;
    for (const std::byte b : bytes) x ^= std::to_integer<std::uint8_t>(b);
    sink = x;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const auto rest = std::as_bytes(std::span(data + 1, size - 1));
    std::vector<std::byte> file = data[0] % 3 == 2 ? raw_from(rest) : std::vector<std::byte>(rest.begin(), rest.end());
    if (data[0] % 3 == 1) repair(file);

    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, file.data(), file.size()) != static_cast<ssize_t>(file.size())) std::abort();
    char path[32];
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const auto index = Image::open_index(path);
    const auto image = Image::open(path, {.threads = 2, .verify = data[0] % 3 != 2});
    if (image) {
        for (const TensorEntry& entry : image.value().tensors()) {
            const auto t = image.value().tensor(entry.name);
            if (!t) std::abort();  // the index lists it
            read_all(t.value().codes);
            read_all(t.value().scales);
            read_all(t.value().steps);
        }
        (void)verify_hashes(path, image.value().header(), image.value().tensors(), image.value().raw(),
                            {.threads = 2});  // whatever it says
        for (std::uint32_t id = 0; id < 8; id++) read_all(image.value().section(static_cast<SectionId>(id)));
        if (data[0] % 3 != 2 && !index) std::abort();  // what opens has a plan
        if (engine::check_params(image.value().params())) {
            std::vector<engine::LowRank> targets(std::size_t{image.value().params().layers} * adapted_count);
            if (engine::bind(image.value(), image.value().params(), targets.data()))
                for (const engine::LowRank& t : targets) {
                    if (t.rank == 0) continue;
                    for (const engine::Linear* l : {&t.a, &t.b}) {
                        const auto cells = static_cast<std::size_t>(l->w.rows / 8 * (l->w.cols / 32));
                        read_all({reinterpret_cast<const std::byte*>(l->w.codes), cells * 256});
                        read_all({reinterpret_cast<const std::byte*>(l->w.scales), cells * 16});
                    }
                }
        }
    }
    for (const Residency residency : {Residency::on_demand, Residency::streamed}) {
        const auto part = Image::open(path, {.threads = 2, .residency = residency, .verify = data[0] % 3 != 2});
        if (!part) continue;
        if (Rows* const rows = part.value().rows())
            for (const std::uint32_t row : {0u, rows->tensor().rows / 2, rows->tensor().rows - 1}) {
                const auto block = rows->block(row);
                if (block) read_all({block.value().codes, rows->tensor().codes_size / ((rows->tensor().rows + 7) / 8)});
            }
        if (Layers* const layers = part.value().layers())
            for (const TensorEntry& entry : part.value().tensors()) {
                if (!is_streamed(entry) || !layers->acquire(layer_of(entry))) continue;
                read_all(part.value().tensor(entry.name).value().codes);
            }
    }
    static const PublicKey key = a_key();
    if (Image::open(path, {.threads = 2, .trust = {{&key, 1}}})) std::abort();
    close(fd);
    return 0;
}
