#include "sign.h"

#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "image/signature.h"
#include "image/stored.h"
#include "output.h"

namespace slmd::pack {
namespace {

using namespace image;

using Bytes = std::span<const std::uint8_t>;

std::string pem_text(const char* label, std::initializer_list<Bytes> parts) {
    constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::vector<std::uint8_t> der;
    for (const Bytes part : parts) der.insert(der.end(), part.begin(), part.end());
    std::string body;
    for (std::size_t i = 0; i < der.size(); i += 3) {
        std::uint32_t bits = 0;
        for (std::size_t k = 0; k < 3; k++) bits = bits << 8 | (i + k < der.size() ? der[i + k] : 0);
        for (std::size_t k = 0; k < 4; k++) body += i + k > der.size() ? '=' : digits[bits >> (18 - 6 * k) & 63];
        if (i / 3 % 16 == 15 && i + 3 < der.size()) body += '\n';
    }
    return std::string("-----BEGIN ") + label + "-----\n" + body + "\n-----END " + label + "-----\n";
}

// Creates the file, or says why not; it never replaces one.
Result<void> write_new(const std::string& path, const std::string& text, mode_t mode) {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0 && errno == EEXIST)
        return Error::make(Code::storage_failure, "%s: there is a file already, which stays; choose another name",
                           path.c_str());
    if (fd < 0) return Error::make(Code::storage_failure, "%s: %s", path.c_str(), strerror(errno));
    const ssize_t n = write(fd, text.data(), text.size());
    const bool good = n == static_cast<ssize_t>(text.size()) && fchmod(fd, mode) == 0 && fsync(fd) == 0;
    const int reason = n >= 0 && n < static_cast<ssize_t>(text.size()) ? ENOSPC : errno;
    close(fd);
    if (good) return {};
    unlink(path.c_str());
    return Error::make(Code::storage_failure, "%s: %s", path.c_str(), strerror(reason));
}

Result<Signature> make_signature(const RawHeader& header, const PrivateKey& key) {
    Signature out{};
    out.type = SignatureType::ecdsa_p256_sha256;
    std::memcpy(out.key_id, key.public_key.id.bytes.data(), sizeof out.key_id);
    const Sha256 digest = TRY(signed_digest(header));
    const auto rs = TRY(sign_digest(digest, key));
    std::memcpy(out.rs, rs.data(), rs.size());
    return out;
}

// Copies `from` with other bytes at its front.
Result<void> write_with_front(const std::string& output, std::span<const std::byte> front,
                              std::span<const std::byte> from) {
    AtomicFile file = TRY(AtomicFile::create(output.c_str()));
    TRY(file.write(front));
    TRY(file.write(from.subspan(front.size())));
    return file.commit();
}

}  // namespace

Result<image::PublicKey> make_key(const std::string& path) {
    const PrivateKey key = TRY(generate_key());
    std::string text = pem_text("EC PRIVATE KEY", {sec1_front, key.scalar, sec1_middle, key.public_key.point});
    const auto written = write_new(path, text, 0600);
    explicit_bzero(text.data(), text.size());
    TRY(written);
    if (auto ok = write_new(path + ".pub", pem_text("PUBLIC KEY", {public_key_prefix, key.public_key.point}), 0644);
        !ok) {
        unlink(path.c_str());  // ours, a moment old; half a pair is of no use
        return ok.error();
    }
    return key.public_key;
}

Result<void> sign_image(const std::string& path, const std::string& output, const PrivateKey& key) {
    const OpenOptions options{.threads = 4};
    const Image opened = TRY(Image::open(path.c_str(), options));
    RawHeader header = opened.header();
    // Nothing is vouched for that was not looked at.
    TRY(verify_hashes(path.c_str(), header, opened.tensors(), opened.raw(), options));
    header.signature = TRY(make_signature(header, key));
    const MappedFile map = TRY(MappedFile::open(path.c_str()));
    const auto bytes = map.bytes();
    if (!opened.sizes().compressed) return write_with_front(output, std::as_bytes(std::span(&header, 1)), bytes);

    const StoredFile file =
        TRY(StoredFile::open(path.c_str(), ::open(path.c_str(), O_RDONLY | O_CLOEXEC), bytes.size()));
    std::vector<FrameEntry> frames(file.frames().begin(), file.frames().end());
    std::vector<std::byte> unit(frames[0].raw);
    TRY(file.read(path.c_str(), "header", 0, unit));
    if (unit.size() < sizeof header)
        return Error::make(Code::model_format, "%s: its header lies in several frames; import the model again",
                           path.c_str());
    std::memcpy(unit.data(), &header, sizeof header);
    const auto frame = plain_frame(unit);
    if (frame.size() != frames[0].stored)  // everything behind it would move
        return Error::make(Code::model_format,
                           "%s: its header's frame is compressed, which slmpack does not do; import the model again",
                           path.c_str());
    frames[0].crc32c = crc32c(frame);
    StoredHeader stored = file.header();
    const auto table = std::as_bytes(std::span(frames));
    const Sha256 digest = TRY(sha256(table));
    std::memcpy(stored.frames_sha256, digest.data(), digest.size());

    std::vector<std::byte> front(bytes.begin(), bytes.begin() + 8);  // of the skippable frame
    const auto append = [&](std::span<const std::byte> part) { front.insert(front.end(), part.begin(), part.end()); };
    append(std::as_bytes(std::span(&stored, 1)));
    append(table);
    append(frame);
    return write_with_front(output, front, bytes);
}

}  // namespace slmd::pack
