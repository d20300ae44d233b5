// LINK: slmd_image slmd_pack_image slmd_base
// A difference of images, against a small stored image that is always the same. With the first byte odd the hash of its
// list is made right.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/sha256.h"
#include "image/delta.h"
#include "toolchain/slmpack/image/writer.h"

using namespace slmd;

namespace {

// Goes with the process.
struct Folder {
    std::string path;
    ~Folder() { std::filesystem::remove_all(path); }
};

const std::string& folder() {
    static const Folder made{[] {
        std::string name = "/tmp/slmd-fuzz-XXXXXX";
        if (mkdtemp(name.data()) == nullptr) std::abort();
        pack::ImageContents contents;
        std::strcpy(contents.params.name, "fuzz");
        std::strcpy(contents.params.family, "llama");
        contents.tensors = {{"v", image::Kind::f32, 1, 64}};
        contents.tensor = [](const pack::TensorSpec&) -> Result<pack::TensorData> {
            pack::TensorData t{.kind = image::Kind::f32, .rows = 1, .cols = 64};
            t.values.assign(64, 1.5f);
            return t;
        };
        if (!pack::write_image(name + "/old", contents, {})) std::abort();
        return name;
    }()};
    return made.path;
}

void write(const std::string& path, const std::uint8_t* data, std::size_t size) {
    std::FILE* f = std::fopen(path.c_str(), "wb");
    if (f == nullptr || (size != 0 && std::fwrite(data, 1, size, f) != size)) std::abort();
    std::fclose(f);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    std::vector<std::uint8_t> bytes(data + 1, data + size);
    image::DeltaHeader header;
    if ((data[0] & 1) != 0 && bytes.size() >= sizeof header) {
        std::memcpy(&header, bytes.data(), sizeof header);
        std::memcpy(header.magic, image::delta_magic, sizeof header.magic);
        header.version = image::delta_version;
        auto old = MappedFile::open((folder() + "/old").c_str());
        if (!old) std::abort();
        header.old_size = old.value().bytes().size();
        std::uint32_t front;  // of the skippable frame
        std::memcpy(&front, old.value().bytes().data() + 4, sizeof front);
        auto digest = sha256(old.value().bytes().first(8 + front));
        std::memcpy(header.old_front, digest.value().data(), sizeof header.old_front);
        header.op_count %= 64;
        const std::size_t list = header.op_count * sizeof(image::DeltaOp);
        if (list <= bytes.size() - sizeof header) {
            digest = sha256(std::as_bytes(std::span(bytes)).subspan(sizeof header, list));
            std::memcpy(header.ops_sha256, digest.value().data(), sizeof header.ops_sha256);
        }
        std::memcpy(bytes.data(), &header, sizeof header);
    }
    write(folder() + "/delta", bytes.data(), bytes.size());
    (void)image::apply_delta((folder() + "/old").c_str(), (folder() + "/delta").c_str(), (folder() + "/new").c_str());
    return 0;
}
