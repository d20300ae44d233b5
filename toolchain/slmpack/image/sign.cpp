#include "sign.h"

#include <fcntl.h>
#include <psa/crypto.h>
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

// DER, around the scalar and the point: on P-256 every length in it is always the same.
constexpr std::uint8_t sec1_front[] = {0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20};
constexpr std::uint8_t sec1_middle[] = {0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
                                        0x03, 0x01, 0x07, 0xa1, 0x44, 0x03, 0x42, 0x00};
constexpr std::uint8_t pkcs8_front[] = {0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86,
                                        0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
                                        0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20};
constexpr std::uint8_t pkcs8_middle[] = {0xa1, 0x44, 0x03, 0x42, 0x00};

using Bytes = std::span<const std::uint8_t>;

// Front, scalar, middle, point: taken apart where the other bytes are those.
bool match(const Pem& pem, Bytes front, Bytes middle, PrivateKey& out, std::array<std::uint8_t, 65>& point) {
    if (pem.size != front.size() + 32 + middle.size() + 65) return false;
    const std::uint8_t* const at = pem.der;
    if (std::memcmp(at, front.data(), front.size()) != 0 ||
        std::memcmp(at + front.size() + 32, middle.data(), middle.size()) != 0)
        return false;
    std::memcpy(out.scalar.data(), at + front.size(), 32);
    std::memcpy(point.data(), at + front.size() + 32 + middle.size(), point.size());
    return true;
}

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

Error psa_error(const char* what, psa_status_t status) {
    return Error::make(Code::unknown, "%s (PSA status %d)", what, static_cast<int>(status));
}

psa_key_attributes_t pair_attributes(psa_key_usage_t usage, psa_algorithm_t algorithm) {
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    psa_set_key_type(&attributes, PSA_KEY_TYPE_ECC_KEY_PAIR(PSA_ECC_FAMILY_SECP_R1));
    psa_set_key_bits(&attributes, 256);
    psa_set_key_usage_flags(&attributes, usage);
    psa_set_key_algorithm(&attributes, algorithm);
    return attributes;
}

// RFC 6979: no random numbers at the time of signing, whose failure would give the key away, and the same bytes again.
constexpr psa_algorithm_t signing = PSA_ALG_DETERMINISTIC_ECDSA(PSA_ALG_SHA_256);

struct Handle {
    psa_key_id_t id = 0;
    ~Handle() { psa_destroy_key(id); }
};

Result<void> import(const PrivateKey& key, psa_key_usage_t usage, Handle& out) {
    if (const psa_status_t status = psa_crypto_init(); status != PSA_SUCCESS)
        return psa_error("no cryptography here", status);
    const psa_key_attributes_t attributes = pair_attributes(usage, signing);
    if (psa_import_key(&attributes, key.scalar.data(), key.scalar.size(), &out.id) != PSA_SUCCESS)
        return Error::make(Code::incorrect_parameters, "the private key is no number that the curve P-256 has");
    return {};
}

Result<image::PublicKey> public_of(psa_key_id_t id) {
    std::array<std::uint8_t, 65> point;
    std::size_t size = 0;
    const psa_status_t status = psa_export_public_key(id, point.data(), point.size(), &size);
    if (status != PSA_SUCCESS || size != point.size()) return psa_error("the public key cannot be made", status);
    return public_key(point);
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

Result<std::array<std::uint8_t, 64>> sign_digest(const Sha256& digest, const PrivateKey& key) {
    Handle handle;
    TRY(import(key, PSA_KEY_USAGE_SIGN_HASH, handle));
    std::array<std::uint8_t, 64> rs;
    std::size_t size = 0;
    const psa_status_t status =
        psa_sign_hash(handle.id, signing, digest.data(), digest.size(), rs.data(), rs.size(), &size);
    if (status != PSA_SUCCESS || size != rs.size()) return psa_error("signing failed", status);
    return rs;
}

PrivateKey::~PrivateKey() { explicit_bzero(scalar.data(), scalar.size()); }

Result<PrivateKey> parse_private_key(const char* path, std::string_view text) {
    Pem pem = TRY(parse_pem(path, text));
    const std::string label = pem.label;
    PrivateKey key;
    std::array<std::uint8_t, 65> point;
    const bool matched = label == "EC PRIVATE KEY" ? match(pem, sec1_front, sec1_middle, key, point)
                         : label == "PRIVATE KEY"  ? match(pem, pkcs8_front, pkcs8_middle, key, point)
                                                   : false;
    explicit_bzero(&pem, sizeof pem);
    if (!matched && label == "PUBLIC KEY")
        return Error::make(Code::incorrect_parameters, "%s: a public key; the private one signs", path);
    if (!matched)
        return Error::make(Code::incorrect_parameters,
                           "%s: not a private key on the curve P-256 with its public point; slmpack keygen makes one",
                           path);
    Handle handle;
    if (auto ok = import(key, PSA_KEY_USAGE_EXPORT, handle); !ok)
        return Error::make(ok.error().code, "%s: %s", path, ok.error().text);
    key.public_key = TRY(public_of(handle.id));
    if (key.public_key.point != point)
        return Error::make(Code::incorrect_parameters,
                           "%s: the key is damaged: its public point is not that of its private number", path);
    return key;
}

Result<PrivateKey> read_private_key(const char* path) {
    KeyText text = TRY(read_key_text(path));
    auto key = parse_private_key(path, text.view());
    explicit_bzero(&text, sizeof text);
    return key;
}

Result<image::PublicKey> make_key(const std::string& path) {
    if (const psa_status_t status = psa_crypto_init(); status != PSA_SUCCESS)
        return psa_error("no cryptography here", status);
    Handle handle;
    const psa_key_attributes_t attributes = pair_attributes(PSA_KEY_USAGE_EXPORT, signing);
    if (const psa_status_t status = psa_generate_key(&attributes, &handle.id); status != PSA_SUCCESS)
        return psa_error("no key can be made", status);
    PrivateKey key;
    std::size_t size = 0;
    const psa_status_t status = psa_export_key(handle.id, key.scalar.data(), key.scalar.size(), &size);
    if (status != PSA_SUCCESS || size != key.scalar.size()) return psa_error("the key cannot be exported", status);
    key.public_key = TRY(public_of(handle.id));

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
