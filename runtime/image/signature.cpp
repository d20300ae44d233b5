#include "image/signature.h"

#include <psa/crypto.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/sha256.h"
#include "image/check.h"
#include "image/layout.h"
#include "image/resident.h"
#include "image/threads.h"

namespace slmd::image {
namespace {

constexpr char again[] = "copy the file again or run slmpack verify";

bool same(const Sha256& digest, const std::uint8_t* want, std::size_t size) {
    return std::memcmp(digest.data(), want, size) == 0;
}

// Tensors, dealt out from the last: the tied embedding, the largest by far, stands there.
struct Hashing {
    std::span<const TensorEntry> tensors;
    std::span<const std::byte> raw;
    const OpenOptions& options;
    std::atomic<std::size_t> next{0};
    std::atomic<std::uint64_t> done{0};
    std::atomic<bool> failed{false};
    Error error{};  // written once, by whoever set failed
    const char* path;
};

void hash_tensors(Hashing& job, bool reports) {
    const auto fail = [&](const Error& error) {
        if (!job.failed.exchange(true)) job.error = error;
    };
    while (!job.failed.load(std::memory_order_relaxed)) {
        const std::size_t i = job.next.fetch_add(1, std::memory_order_relaxed);
        if (i >= job.tensors.size()) break;
        const TensorEntry& t = job.tensors[job.tensors.size() - 1 - i];
        if (is_absent(t, job.options.residency)) continue;
        const auto stream = [&](std::uint64_t offset, std::uint64_t size) {
            return size == 0 ? std::span<const std::byte>{} : job.raw.subspan(offset, size);
        };
        const auto digest =
            sha256({stream(t.codes, t.codes_size), stream(t.scales, t.scales_size), stream(t.steps, t.steps_size)});
        if (!digest) return fail(digest.error());
        if (!same(digest.value(), t.sha256, sizeof t.sha256))
            return fail(
                Error::make(Code::model_integrity, "%s: tensor %s: SHA-256 mismatch; %s", job.path, t.name, again));
        const std::uint64_t size = t.codes_size + t.scales_size + t.steps_size,
                            done = job.done.fetch_add(size, std::memory_order_relaxed) + size;
        if (reports && job.options.progress != nullptr)
            job.options.progress(job.options.context, job.raw.size() + done, 2 * job.raw.size());
    }
}

// Walks the raw form in the order of the file.
struct Gaps {
    std::span<const std::byte> raw;
    std::uint64_t at = 0;
    bool zero = true;

    void skip_to(std::uint64_t offset) {
        const auto gap = raw.subspan(at, offset - at);
        zero = zero && std::all_of(gap.begin(), gap.end(), [](std::byte b) { return b == std::byte{}; });
        at = offset;
    }
    void covered(std::uint64_t offset, std::uint64_t size) {
        if (size == 0) return;
        skip_to(offset);
        at = offset + size;
    }
};

}  // namespace

bool is_signed(const RawHeader& header) { return header.signature.type != SignatureType::none; }

KeyId signer(const RawHeader& header) {
    KeyId id;
    std::memcpy(id.bytes.data(), header.signature.key_id, id.bytes.size());
    return id;
}

Result<Sha256> signed_digest(const RawHeader& header) {
    RawHeader zeroed = header;
    zeroed.signature = {};
    return sha256(std::as_bytes(std::span(&zeroed, 1)));
}

Result<bool> holds(const PublicKey& key, const Sha256& digest, std::span<const std::uint8_t, 64> rs) {
    psa_status_t status = psa_crypto_init();
    if (status != PSA_SUCCESS)
        return Error::make(Code::unknown, "no cryptography here (PSA status %d)", static_cast<int>(status));
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    psa_set_key_type(&attributes, PSA_KEY_TYPE_ECC_PUBLIC_KEY(PSA_ECC_FAMILY_SECP_R1));
    psa_set_key_usage_flags(&attributes, PSA_KEY_USAGE_VERIFY_HASH);
    psa_set_key_algorithm(&attributes, PSA_ALG_ECDSA(PSA_ALG_SHA_256));
    psa_key_id_t id = 0;
    status = psa_import_key(&attributes, key.point.data(), key.point.size(), &id);
    if (status == PSA_SUCCESS) {
        status =
            psa_verify_hash(id, PSA_ALG_ECDSA(PSA_ALG_SHA_256), digest.data(), digest.size(), rs.data(), rs.size());
        psa_destroy_key(id);
    }
    if (status == PSA_SUCCESS) return true;
    if (status == PSA_ERROR_INVALID_SIGNATURE || status == PSA_ERROR_INVALID_ARGUMENT) return false;
    return Error::make(Code::unknown, "ECDSA is not available (PSA status %d)", static_cast<int>(status));
}

Result<void> verify_signature(const char* path, const RawHeader& header, std::span<const PublicKey> keys) {
    if (!is_signed(header))
        return Error::make(Code::model_integrity, "%s: not signed; slmpack sign IMAGE --key KEY does it", path);
    const KeyName name = name_of(signer(header));
    if (!has_hashes(header))
        return Error::make(Code::model_integrity,
                           "%s: signed by key %s, but has no hashes of its tensors: import it again, and sign that",
                           path, name.hex);
    const Sha256 digest = TRY(signed_digest(header));
    for (const PublicKey& key : keys) {
        if (key.id != signer(header)) continue;
        if (TRY(holds(key, digest, header.signature.rs))) return {};
        return Error::make(Code::model_integrity,
                           "%s: the signature by key %s does not hold: the image was changed or damaged; take it from "
                           "its source again, or sign it again",
                           path, name.hex);
    }
    return Error::make(Code::model_integrity,
                       "%s: signed by key %s, which is none of the %zu allowed; allow that key, or sign with one that "
                       "is",
                       path, name.hex, keys.size());
}

Result<void> check_trust(const char* path, const RawHeader& header, const ModelParams& params, const Trust& trust) {
    if (trust.keys.empty()) return {};
    if (!is_signed(header) && !trust.required) return {};
    TRY(verify_signature(path, header, trust.keys));
    const std::uint8_t* const want = header.section_sha256[find_section(header, SectionId::params) - header.sections];
    const Sha256 digest = TRY(sha256(std::as_bytes(std::span(&params, 1))));
    if (!same(digest, want, sizeof(Sha256)))
        return Error::make(Code::model_integrity, "%s: section params: SHA-256 mismatch; %s", path, again);
    return {};
}

Result<void> verify_hashes(const char* path, const RawHeader& header, std::span<const TensorEntry> tensors,
                           std::span<const std::byte> raw, const OpenOptions& options) {
    if (!has_hashes(header))
        return Error::make(Code::model_integrity, "%s: has no hashes of its tensors: import it again", path);
    Gaps gaps{raw};
    gaps.covered(0, sizeof header);
    for (std::uint32_t i = 0; i < header.section_count; i++) {
        const Section& s = header.sections[i];
        const auto id = static_cast<SectionId>(s.id);
        if (id == SectionId::tensors) {
            for (const TensorEntry& t : tensors) {
                if (const Extent all = extent_of(t); is_absent(t, options.residency)) {
                    gaps.covered(all.begin, all.end - all.begin);
                    continue;
                }
                gaps.covered(t.codes, t.codes_size);
                gaps.covered(t.scales, t.scales_size);
                gaps.covered(t.steps, t.steps_size);
            }
            gaps.skip_to(s.offset + s.size);
            continue;
        }
        gaps.covered(s.offset, s.size);
        if (id == SectionId::index) continue;  // index_sha256, checked before it was looked at
        const Sha256 digest = TRY(sha256(raw.subspan(s.offset, s.size)));
        if (!same(digest, header.section_sha256[i], sizeof(Sha256)))
            return Error::make(Code::model_integrity, "%s: section %s: SHA-256 mismatch; %s", path, section_name(s.id),
                               again);
    }
    gaps.skip_to(raw.size());
    if (!gaps.zero)
        return Error::make(Code::model_integrity, "%s: there is something between its sections or tensors; %s", path,
                           again);
    Hashing job{.tensors = tensors, .raw = raw, .options = options, .path = path};
    run_together(
        options.threads, [](void* context, bool own) { hash_tensors(*static_cast<Hashing*>(context), own); }, &job);
    if (job.failed) return job.error;
    return {};
}

}  // namespace slmd::image
