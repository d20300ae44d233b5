// Signatures: what is not as the key's owner signed it is refused, also where every checksum was made to fit.
#include "image/signature.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "image/audit.h"
#include "image/check.h"
#include "image/rows.h"
#include "image/stored.h"
#include "synthetic.h"
#include "toolchain/slmpack/image/output.h"
#include "toolchain/slmpack/image/sign.h"
#include "toolchain/slmpack/image/verify.h"

namespace slmd::test {
namespace {

using namespace image;

template <std::size_t N>
std::array<std::uint8_t, N> unhex(const std::string& text) {
    std::array<std::uint8_t, N> out{};
    for (std::size_t i = 0; i < N; i++)
        out[i] = static_cast<std::uint8_t>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
    return out;
}

std::string text_of(const std::string& path) {
    const auto bytes = read_file(path);
    return {bytes.begin(), bytes.end()};
}
void write_text(const std::string& path, const std::string& text) { write_file(path, {text.begin(), text.end()}); }

// Every kind in few bytes, so that a test can go through all of them.
struct Small : Synthetic {
    Small() {
        contents.tokenizer.assign(200, std::byte{0x5a});
        contents.tensors.clear();
        data.clear();
        add("blk.0.attn_norm", Kind::f32, 1, 12);
        add("blk.0.attn_q", Kind::i4, 3, 40);
        add("blk.0.ffn_up", Kind::i8, 2, 20);
        add("blk.0.ffn_down", Kind::i6, 2, 20);
    }
};

class Signing : public testing::Test {
  protected:
    void SetUp() override {
        ASSERT_TRUE(pack::make_key(folder / "key"));
        ASSERT_TRUE(pack::make_key(folder / "other"));
        const auto mine = read_public_key((folder / "key.pub").c_str()),
                   others = read_public_key((folder / "other.pub").c_str());
        ASSERT_TRUE(mine) << mine.error().text;
        ASSERT_TRUE(others) << others.error().text;
        keys = {mine.value()};
        other_keys = {others.value()};
    }
    std::string write(const std::string& name, const pack::WriteOptions& options = {}) {
        const Small small;
        const auto written = pack::write_image(folder / name, small.contents, options);
        EXPECT_TRUE(written) << written.error().text;
        return folder / name;
    }
    std::string write_signed(const std::string& name, const pack::WriteOptions& options = {}) {
        const std::string path = write(name, options);
        sign(path);
        return path;
    }
    void sign(const std::string& path, const char* key = "key") {
        const auto private_key = image::read_private_key((folder / key).c_str());
        ASSERT_TRUE(private_key) << private_key.error().text;
        const auto done = pack::sign_image(path, path, private_key.value());
        ASSERT_TRUE(done) << done.error().text;
    }
    OpenOptions trusting(bool required = true) const { return {.threads = 2, .trust = {keys, required}}; }
    // The error, which names the file; "" when it opens.
    static std::string refusal(const std::string& path, const OpenOptions& options) {
        const auto image = Image::open(path.c_str(), options);
        const auto whole = audit(path.c_str(), options.trust);  // looks at hashes without a key as well
        EXPECT_TRUE(image || !whole);
        if (image) return "";
        EXPECT_STREQ(image.error().text, whole.error().text);
        EXPECT_NE(std::string(image.error().text).find(path), std::string::npos) << image.error().text;
        return image.error().text;
    }
    static void expect_part(const std::string& text, const std::string& part) {
        EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" in: " << text;
    }
    TemporaryFolder folder;
    std::vector<PublicKey> keys, other_keys;
};

// RFC 6979, A.2.5, P-256 with SHA-256, message "sample": the digest, the key and the signature are all given there.
TEST(Ecdsa, TheVectorOfRfc6979) {
    image::PrivateKey key;
    key.scalar = unhex<32>("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721");
    const auto point = unhex<65>(
        "0460FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
        "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299");
    const auto rs = unhex<64>(
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8");
    const std::string message = "sample";
    const auto digest = sha256(std::as_bytes(std::span(message)));
    const auto public_point = public_key(point);
    ASSERT_TRUE(digest && public_point);
    const auto good = holds(public_point.value(), digest.value(), rs);
    ASSERT_TRUE(good) << good.error().text;
    EXPECT_TRUE(good.value());
    const auto made = image::sign_digest(digest.value(), key);
    ASSERT_TRUE(made) << made.error().text;
    EXPECT_EQ(made.value(), rs);
    for (std::size_t i = 0; i < rs.size(); i++) {
        auto bad = rs;
        bad[i] ^= 1;
        const auto held = holds(public_point.value(), digest.value(), bad);
        ASSERT_TRUE(held) << held.error().text;
        EXPECT_FALSE(held.value()) << "byte " << i;
    }
    for (const auto& edge : {std::array<std::uint8_t, 64>{}, unhex<64>(std::string(128, 'f'))}) {
        const auto held = holds(public_point.value(), digest.value(), edge);
        ASSERT_TRUE(held) << held.error().text;
        EXPECT_FALSE(held.value());
    }
}

TEST_F(Signing, BothFormsOpenForTheKeyAndForNoOther) {
    for (const bool raw : {false, true}) {
        const std::string path = write("m", {.raw = raw});
        const auto unsigned_bytes = read_file(path);
        const std::size_t size = unsigned_bytes.size();
        expect_part(refusal(path, trusting()), "not signed");
        EXPECT_EQ(refusal(path, trusting(false)), "") << "who does not require one takes it as it is";
        sign(path);
        const auto first = read_file(path);
        EXPECT_EQ(first.size(), size);
        EXPECT_NE(first, unsigned_bytes);
        EXPECT_EQ(refusal(path, trusting()), "");
        EXPECT_EQ(refusal(path, {}), "") << "a reader that has no keys goes on as before";
        EXPECT_TRUE(pack::verify_image(path).empty());
        EXPECT_TRUE(pack::verify_image(path, {}, keys).empty());
        for (const bool required : {true, false})
            expect_part(refusal(path, {.trust = {other_keys, required}}),
                        "signed by key " + std::string(name_of(keys[0].id).hex) + ", which is none of the 1 allowed");
        ASSERT_EQ(pack::verify_image(path, {}, other_keys).size(), 1u);
        const std::vector<PublicKey> both = {other_keys[0], keys[0]};
        EXPECT_EQ(refusal(path, {.trust = {both}}), "");
        for (const auto& index : {Image::open_index(path.c_str(), {keys}), Image::open_index(path.c_str(), {both})})
            EXPECT_TRUE(index);
        EXPECT_FALSE(Image::open_index(path.c_str(), {other_keys}));
        sign(path);
        EXPECT_EQ(read_file(path), first) << "the same key and image, the same bytes";
        sign(path, "other");
        EXPECT_EQ(refusal(path, {.trust = {other_keys}}), "") << "a new signature takes the place of the old one";
        EXPECT_NE(refusal(path, trusting()), "");
    }
}

TEST_F(Signing, ASignedImageIsStillAnOrdinaryZstdFile) {
    if (std::system("zstd --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no zstd program here";
    const std::string stored = write_signed("m.slm"), raw = write_signed("m.raw", {.raw = true});
    ASSERT_EQ(std::system(("zstd -dcq " + stored + " > " + (folder / "out")).c_str()), 0);
    EXPECT_EQ(read_file(folder / "out"), read_file(raw)) << "signing it and its raw form gives the same raw bytes";
}

TEST_F(Signing, SigningElsewhereLeavesTheImage) {
    const std::string path = write("m.slm");
    const auto before = read_file(path);
    const auto key = image::read_private_key((folder / "key").c_str());
    ASSERT_TRUE(key);
    ASSERT_TRUE(pack::sign_image(path, folder / "signed.slm", key.value()));
    EXPECT_EQ(read_file(path), before);
    EXPECT_EQ(refusal(folder / "signed.slm", trusting()), "");
    const auto failed = pack::sign_image(path, folder / "nowhere/m.slm", key.value());
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, Code::storage_failure);
}

// Nothing is signed that is not whole.
TEST_F(Signing, ADamagedImageIsNotSigned) {
    const std::string path = write("m.raw", {.raw = true});
    auto bytes = read_file(path);
    bytes[bytes.size() - 70] ^= 1;
    write_file(path, bytes);
    const auto key = image::read_private_key((folder / "key").c_str());
    ASSERT_TRUE(key);
    EXPECT_FALSE(pack::sign_image(path, path, key.value()));
    EXPECT_EQ(read_file(path), bytes);
}

TEST_F(Signing, AnImageWithoutHashesOpensButCannotBeSigned) {
    const std::string path = write("m.raw", {.raw = true});
    auto bytes = read_file(path);
    RawHeader header = remove_hashes(bytes);
    write_file(path, bytes);
    EXPECT_EQ(refusal(path, {}), "");
    EXPECT_TRUE(pack::verify_image(path).empty());
    EXPECT_EQ(refusal(path, trusting(false)), "");
    expect_part(refusal(path, trusting()), "not signed");
    const auto key = image::read_private_key((folder / "key").c_str());
    ASSERT_TRUE(key);
    const auto refused = pack::sign_image(path, path, key.value());
    ASSERT_FALSE(refused);
    expect_part(refused.error().text, "has no hashes of its tensors: import it again");
    // whoever signs it all the same vouches for nothing
    const auto digest = signed_digest(header);
    const auto rs = image::sign_digest(digest.value(), key.value());
    header.signature.type = SignatureType::ecdsa_p256_sha256;
    std::memcpy(header.signature.key_id, keys[0].id.bytes.data(), 8);
    std::memcpy(header.signature.rs, rs.value().data(), 64);
    rehash(bytes, header);
    write_file(path, bytes);
    expect_part(refusal(path, trusting()), "has no hashes of its tensors");
    // hashes of some only are no image's
    header.section_sha256[0][0] = 1;
    rehash(bytes, header);
    write_file(path, bytes);
    expect_part(refusal(path, {}), "hashes");
}

// ---- forgeries

// Finds the four bytes at `at` that bring the stream back to its CRC-32C after any other change in it. The CRC is
// linear over GF(2): what flipping a bit adds to it does not depend on the other bits.
void forge_crc32c(std::span<std::byte> stream, std::size_t at, std::uint32_t want) {
    const std::uint32_t have = crc32c(stream);
    std::uint32_t effect[32], bits[32];
    for (std::uint32_t i = 0; i < 32; i++) {
        stream[at + i / 8] ^= static_cast<std::byte>(1 << i % 8);
        effect[i] = crc32c(stream) ^ have;
        stream[at + i / 8] ^= static_cast<std::byte>(1 << i % 8);
        bits[i] = 1u << i;
    }
    std::uint32_t difference = have ^ want, patch = 0;
    for (std::uint32_t column = 0, row = 0; column < 32; column++) {
        std::uint32_t pivot = row;
        while (pivot < 32 && (effect[pivot] >> column & 1) == 0) pivot++;
        ASSERT_LT(pivot, 32u) << "the CRC of 32 bits in a row is always a bijection";
        std::swap(effect[row], effect[pivot]);
        std::swap(bits[row], bits[pivot]);
        for (std::uint32_t r = row + 1; r < 32; r++)
            if ((effect[r] >> column & 1) != 0) {
                effect[r] ^= effect[row];
                bits[r] ^= bits[row];
            }
        if ((difference >> column & 1) != 0) {
            difference ^= effect[row];
            patch ^= bits[row];
        }
        row++;
    }
    ASSERT_EQ(difference, 0u);
    for (std::uint32_t i = 0; i < 4; i++) stream[at + i] ^= static_cast<std::byte>(patch >> 8 * i);
    ASSERT_EQ(crc32c(stream), want);
}

// A tensor's code is changed, and four others so that the CRC of the index stays right: for every reader without keys
// this is a whole image. This is why there are signatures.
TEST_F(Signing, AForgedCrcDeceivesEverythingButTheSignature) {
    // every frame as it is, so that a changed one has the size that it had
    const std::string raw = write_signed("m.raw", {.raw = true}), stored = write_signed("m.slm", {.least_saving = 1});
    auto bytes = read_file(raw);
    RawHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    TensorEntry t;
    std::memcpy(&t, bytes.data() + find_section(header, SectionId::index)->offset + sizeof t, sizeof t);
    ASSERT_STREQ(t.name, "blk.0.attn_q");
    const auto codes = std::as_writable_bytes(std::span(bytes)).subspan(t.codes, t.codes_size);
    codes[3] ^= std::byte{0x10};
    forge_crc32c(codes, 8, t.crc32c[0]);
    write_file(raw, bytes);
    EXPECT_EQ(refusal(raw, {}), "") << "CRCs and the hash of the index are right";
    expect_part(refusal(raw, trusting()), "tensor blk.0.attn_q: SHA-256 mismatch");
    expect_part(refusal(raw, {.verify = false, .trust = {keys}}), "tensor blk.0.attn_q: SHA-256 mismatch");
    ASSERT_EQ(pack::verify_image(raw).size(), 1u) << "a hash is a hash, with a key or without";

    auto file = read_file(stored);
    auto opened = StoredFile::open(stored.c_str(), ::open(stored.c_str(), O_RDONLY), file.size());
    ASSERT_TRUE(opened);
    std::vector<FrameEntry> frames(opened->frames().begin(), opened->frames().end());
    const std::uint32_t i = opened->frame_at(t.codes);
    std::vector<std::byte> part(codes.begin(), codes.end());
    part.resize(frames[i].raw);
    const auto frame = pack::plain_frame(part);
    ASSERT_EQ(frame.size(), frames[i].stored);
    std::memcpy(file.data() + frames[i].offset, frame.data(), frame.size());
    frames[i].crc32c = crc32c(frame);
    StoredHeader front = opened->header();
    const auto digest = sha256(std::as_bytes(std::span(frames)));
    std::memcpy(front.frames_sha256, digest.value().data(), 32);
    std::memcpy(file.data() + 8, &front, sizeof front);
    std::memcpy(file.data() + 8 + sizeof front, frames.data(), frames.size() * sizeof(FrameEntry));
    write_file(stored, file);
    EXPECT_EQ(refusal(stored, {}), "");
    expect_part(refusal(stored, trusting()), "tensor blk.0.attn_q: SHA-256 mismatch");
    for (const std::string& path : {raw, stored}) {
        const auto whole = audit(path.c_str(), {});
        ASSERT_FALSE(whole);
        expect_part(whole.error().text, "tensor blk.0.attn_q: SHA-256 mismatch");
    }
}

// The embedding is not in the sealed memory: a forger may change the file before it is opened, and after.
TEST_F(Signing, WhatIsDecodedOnDemandIsWhatWasSigned) {
    Small small;
    small.add("token_embd", Kind::i8, 400, 320);
    small.contents.tensors.back().residency = residency_on_demand;
    const std::string path = folder / "m.slm";
    ASSERT_TRUE(pack::write_image(path, small.contents, {.least_saving = 1}));
    sign(path);
    OpenOptions options = trusting();
    options.residency = Residency::on_demand;
    const auto image = Image::open(path.c_str(), options),
               careless = Image::open(path.c_str(), {.residency = Residency::on_demand});
    ASSERT_TRUE(image) << image.error().text;
    ASSERT_TRUE(careless) << careless.error().text;
    const auto whole = read_file(path);
    const auto opened = StoredFile::open(path.c_str(), ::open(path.c_str(), O_RDONLY), whole.size());
    ASSERT_TRUE(opened);
    const std::uint32_t i = opened.value().frame_at(image.value().rows()->tensor().codes);
    const FrameEntry& frame = opened.value().frames()[i];
    auto forged = whole;
    const auto stored = std::as_writable_bytes(std::span(forged)).subspan(frame.offset, frame.stored);
    stored[stored.size() / 2] ^= std::byte{1};
    forge_crc32c(stored, stored.size() / 2 + 8, frame.crc32c);
    ASSERT_EQ(crc32c(stored), frame.crc32c);
    // In place, as nothing else reaches a file that is open.
    const int fd = ::open(path.c_str(), O_WRONLY);
    ASSERT_EQ(pwrite(fd, forged.data(), forged.size(), 0), static_cast<ssize_t>(forged.size()));
    EXPECT_TRUE(careless.value().rows()->block(0)) << "CRCs do not show it";
    const auto block = image.value().rows()->block(0);
    ASSERT_FALSE(block);
    EXPECT_EQ(block.error().code, Code::model_integrity);
    expect_part(block.error().text, "token_embd codes): SHA-256 mismatch");
    expect_part(refusal(path, options), "tensor token_embd: SHA-256 mismatch");
    // Nor does memory that was kept hide it.
    const int kept = dup(image.value().memfd());
    const auto adopted = Image::adopt(path.c_str(), kept, options);
    ASSERT_FALSE(adopted);
    expect_part(adopted.error().text, "tensor token_embd: SHA-256 mismatch");
    ASSERT_EQ(pwrite(fd, whole.data(), whole.size(), 0), static_cast<ssize_t>(whole.size()));
    close(fd);
    EXPECT_TRUE(image.value().rows()->block(0));
    EXPECT_TRUE(Image::adopt(path.c_str(), kept, options));
}

// A forger with the file in hand, and no checksum in the way: each byte of the raw form in turn, given to what a key
// adds to the checks alone.
TEST_F(Signing, EveryByteOfTheRawFormIsCovered) {
    const std::string path = write_signed("m.raw", {.raw = true});
    const auto whole = read_file(path);
    std::vector<std::byte> bytes(whole.size());
    std::memcpy(bytes.data(), whole.data(), whole.size());
    RawHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    const auto image = Image::open(path.c_str(), trusting());
    ASSERT_TRUE(image) << image.error().text;
    const std::vector<TensorEntry> tensors(image.value().tensors().begin(), image.value().tensors().end());
    ASSERT_TRUE(verify_signature("x", header, keys));
    ASSERT_TRUE(verify_hashes("x", header, tensors, bytes, {}));

    for (std::size_t i = 0; i < sizeof header; i++) {
        RawHeader bad = header;
        reinterpret_cast<std::uint8_t*>(&bad)[i] ^= static_cast<std::uint8_t>(1 << i % 8);
        EXPECT_FALSE(check_header("x", bad) && verify_signature("x", bad, keys)) << "header byte " << i;
    }
    const Section& index = *find_section(header, SectionId::index);
    std::size_t looked_at = 0;
    const auto flip = [&](std::uint64_t at) {
        bytes[at] ^= static_cast<std::byte>(1 << at % 8);
        const bool in_index = at >= index.offset && at < index.offset + index.size;
        const auto hash = sha256(std::span(bytes).subspan(index.offset, index.size));
        const bool index_holds = std::memcmp(hash.value().data(), header.index_sha256, 32) == 0;
        EXPECT_EQ(index_holds, !in_index) << "byte " << at;
        if (!in_index) {
            EXPECT_FALSE(verify_hashes("x", header, tensors, bytes, {})) << "byte " << at;
        }
        bytes[at] ^= static_cast<std::byte>(1 << at % 8);
        looked_at++;
    };
    for (std::uint32_t s = 0; s < header.section_count; s++) {
        const Section& section = header.sections[s];
        for (std::uint64_t at = section.offset; at < section.offset + section.size; at++) flip(at);
    }
    const std::size_t of_sections = looked_at;
    for (std::uint64_t at = sizeof header; at < bytes.size(); at += 1021) flip(at);  // most of it padding
    EXPECT_GT(of_sections, 1500u);
    EXPECT_GT(looked_at - of_sections, 250u);
}

// Every byte of the file, no checksum repaired.
TEST_F(Signing, EveryFlippedByteOfTheFileIsRefusedOrNotRead) {
    const std::string path = write_signed("m.slm"), bad = folder / "bad";
    auto bytes = read_file(path);
    const auto opened = StoredFile::open(path.c_str(), ::open(path.c_str(), O_RDONLY), bytes.size());
    ASSERT_TRUE(opened);
    const FrameEntry& last = opened.value().frames().back();
    std::size_t refused = 0, accepted = 0;
    for (std::size_t i = 0; i < bytes.size(); i++) {
        bytes[i] = static_cast<char>(bytes[i] ^ (1 << i % 8));
        write_file(bad, bytes);
        const bool opens = static_cast<bool>(Image::open(bad.c_str(), trusting()));
        EXPECT_EQ(opens, static_cast<bool>(audit(bad.c_str(), {keys}))) << "byte " << i;
        if (opens) {
            accepted++;
            // The seek table is for other programs: no byte of it is read here, so that none can matter. Its size is
            // that of the file, which is checked.
            EXPECT_GE(i, last.offset + last.stored) << "byte " << i << " may change unnoticed";
        } else {
            refused++;
        }
        bytes[i] = static_cast<char>(bytes[i] ^ (1 << i % 8));
    }
    EXPECT_EQ(refused, last.offset + last.stored);
    EXPECT_EQ(accepted, bytes.size() - refused);
}

TEST_F(Signing, MemoryThatWasKeptIsAskedForItsSignature) {
    const std::string path = write_signed("m.slm");
    auto image = Image::open(path.c_str(), trusting());
    ASSERT_TRUE(image) << image.error().text;
    const auto adopted = Image::adopt(path.c_str(), dup(image->memfd()), {.trust = {keys}});
    EXPECT_TRUE(adopted) << adopted.error().text;
    const int again = dup(image->memfd());
    const auto refused = Image::adopt(path.c_str(), again, {.trust = {other_keys}});
    ASSERT_FALSE(refused);
    expect_part(refused.error().text, "none of the 1 allowed");
    close(again);
}

// Plans are made from the params, before anything else is read.
TEST_F(Signing, AnIndexOpensOnlyWithTheParamsThatWereSigned) {
    const std::string path = write_signed("m.raw", {.raw = true});
    auto bytes = read_file(path);
    RawHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    bytes[find_section(header, SectionId::params)->offset + offsetof(ModelParams, layers)] ^= 1;
    write_file(path, bytes);
    EXPECT_TRUE(Image::open_index(path.c_str()));
    const auto index = Image::open_index(path.c_str(), {keys});
    ASSERT_FALSE(index);
    expect_part(index.error().text, "section params: SHA-256 mismatch");
}

TEST_F(Signing, HashingIsHalfOfTheProgress) {
    const std::string path = write_signed("m.slm");
    std::vector<std::pair<std::uint64_t, std::uint64_t>> seen;
    OpenOptions options = trusting();
    options.threads = 1;
    options.progress = [](void* context, std::uint64_t done, std::uint64_t total) {
        static_cast<decltype(seen)*>(context)->emplace_back(done, total);
    };
    options.context = &seen;
    ASSERT_TRUE(Image::open(path.c_str(), options));
    ASSERT_GT(seen.size(), 3u);
    for (std::size_t i = 1; i < seen.size(); i++) {
        EXPECT_GE(seen[i].first, seen[i - 1].first);
        EXPECT_EQ(seen[i].second, seen[0].second);
    }
    EXPECT_LE(seen.back().first, seen.back().second);
    EXPECT_GT(seen.back().first, seen.back().second / 2);
}

// ---- keys

TEST_F(Signing, AKeyIsSecretAndNeverReplacesAFile) {
    struct stat st;
    ASSERT_EQ(stat((folder / "key").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777, 0600u);
    ASSERT_EQ(stat((folder / "key.pub").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777, 0644u);
    const std::string before = text_of(folder / "key");
    const auto again = pack::make_key(folder / "key");
    ASSERT_FALSE(again);
    expect_part(again.error().text, "there is a file already");
    EXPECT_EQ(text_of(folder / "key"), before);
    write_text(folder / "half.pub", "mine");
    EXPECT_FALSE(pack::make_key(folder / "half"));
    EXPECT_EQ(text_of(folder / "half.pub"), "mine");
    EXPECT_FALSE(std::filesystem::exists(folder / "half")) << "no private key without its public one";
    EXPECT_NE(text_of(folder / "key"), text_of(folder / "other"));
}

TEST_F(Signing, WrongKeyFilesAreToldApart) {
    const std::string pub = text_of(folder / "key.pub"), key = text_of(folder / "key");
    const auto public_error = [](const std::string& text) -> std::string {
        const auto parsed = parse_public_key("k", text);
        return parsed ? "" : parsed.error().text;
    };
    const auto private_error = [](const std::string& text) -> std::string {
        const auto parsed = image::parse_private_key("k", text);
        return parsed ? "" : parsed.error().text;
    };
    EXPECT_EQ(public_error(pub), "");
    EXPECT_EQ(private_error(key), "");
    std::string crlf;
    for (const char c : pub) crlf += c == '\n' ? std::string("\r\n") : std::string(1, c);
    EXPECT_EQ(public_error(crlf), "");
    EXPECT_EQ(public_error("\n" + pub + " \n"), "");
    expect_part(public_error(""), "not a key in PEM");
    expect_part(public_error("ssh-ed25519 AAAA"), "not a key in PEM");
    expect_part(public_error(key), "a private key, which stays where images are signed");
    expect_part(private_error(pub), "a public key");
    expect_part(public_error(pub + pub), "something follows the key");
    expect_part(public_error(pub + "x"), "something follows the key");
    expect_part(public_error(pub.substr(0, pub.size() - 5)), "cut off");
    expect_part(public_error("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "\"CERTIFICATE\"");
    std::string other = pub;
    other[30] = '!';
    expect_part(public_error(other), "not base64");
    other = pub;
    other.insert(30, "AAAA");
    expect_part(public_error(other), "not a public key on the curve P-256");
    expect_part(private_error("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
                "encrypted");
    expect_part(private_error("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n"
                              "-----END EC PRIVATE KEY-----\n"),
                "encrypted");
    expect_part(private_error("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + key),
                "EC PARAMETERS");
    // A changed byte of a key is another key, whose public point is not that of the private number, or no key at all.
    std::size_t changed = 0;
    for (const bool secret : {false, true}) {
        const std::string& text = secret ? key : pub;
        for (std::size_t i = text.find('\n') + 1; i < text.rfind("\n-----END"); i++) {
            if (text[i] == '\n' || text[i] == '=') continue;
            std::string bad = text;
            bad[i] = bad[i] == 'A' ? 'B' : 'A';
            if (bad == text) continue;
            EXPECT_NE(secret ? private_error(bad) : public_error(bad), "") << i << ": " << bad;
            changed++;
        }
    }
    EXPECT_GT(changed, 200u);
    EXPECT_FALSE(read_public_key((folder / "absent").c_str()));
    EXPECT_FALSE(read_public_key(folder.path.c_str()));
    ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
    EXPECT_FALSE(read_public_key((folder / "pipe").c_str())) << "and it does not wait for a writer";
}

// ---- OpenSSL reads what we write, and writes what we read

class OpenSsl : public Signing {
  protected:
    void SetUp() override {
        if (std::system("openssl version > /dev/null 2>&1") != 0)
            GTEST_SKIP() << "no openssl program here: install openssl to see that its keys and ours are the same";
        Signing::SetUp();
    }
    int openssl(const std::string& arguments) const {
        return std::system(("cd " + folder.path + " && openssl " + arguments + " > out 2> error").c_str());
    }
};

TEST_F(OpenSsl, ReadsOurKeysAndChecksOurSignatures) {
    ASSERT_EQ(openssl("ec -in key -check -noout"), 0) << text_of(folder / "error");
    ASSERT_EQ(openssl("ec -in key -pubout -out same.pub"), 0) << text_of(folder / "error");
    EXPECT_EQ(text_of(folder / "same.pub"), text_of(folder / "key.pub")) << "byte for byte";
    ASSERT_EQ(openssl("ec -in key -out same"), 0) << text_of(folder / "error");
    EXPECT_EQ(text_of(folder / "same"), text_of(folder / "key"));

    const std::string path = write_signed("m.raw", {.raw = true});
    RawHeader header;
    const auto bytes = read_file(path);
    std::memcpy(&header, bytes.data(), sizeof header);
    std::string der;  // SEQUENCE { INTEGER r, INTEGER s }
    for (const std::size_t at : {0, 32}) {
        std::string number(reinterpret_cast<const char*>(header.signature.rs) + at, 32);
        while (number.size() > 1 && number[0] == 0) number.erase(0, 1);
        if ((number[0] & 0x80) != 0) number.insert(0, 1, '\0');
        der += std::string("\x02", 1) + static_cast<char>(number.size()) + number;
    }
    write_text(folder / "signature", std::string("\x30", 1) + static_cast<char>(der.size()) + der);
    header.signature = {};
    write_text(folder / "message", {reinterpret_cast<const char*>(&header), sizeof header});
    EXPECT_EQ(openssl("dgst -sha256 -verify key.pub -signature signature message"), 0) << text_of(folder / "out");
    header.raw_size ^= 1;
    write_text(folder / "message", {reinterpret_cast<const char*>(&header), sizeof header});
    EXPECT_NE(openssl("dgst -sha256 -verify key.pub -signature signature message"), 0);
}

TEST_F(OpenSsl, WritesKeysThatWeTake) {
    ASSERT_EQ(openssl("ecparam -name prime256v1 -genkey -noout -out sec1"), 0);
    ASSERT_EQ(openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out pkcs8"), 0);
    for (const char* name : {"sec1", "pkcs8"}) {
        const std::string public_file = std::string(name) + ".pub";
        ASSERT_EQ(openssl(std::string("pkey -in ") + name + " -pubout -out " + public_file), 0);
        const auto key = image::read_private_key((folder / name).c_str());
        ASSERT_TRUE(key) << key.error().text;
        const auto pub = read_public_key((folder / public_file).c_str());
        ASSERT_TRUE(pub) << pub.error().text;
        EXPECT_EQ(key.value().public_key.point, pub.value().point);
        const std::string path = write("m.slm");
        sign(path, name);
        const std::vector<PublicKey> theirs = {pub.value()};
        EXPECT_EQ(refusal(path, {.trust = {theirs}}), "");
    }
}

TEST_F(OpenSsl, ItsOtherKeysAreRefusedWithTheReason) {
    const struct {
        const char *make, *private_says, *public_says;
    } cases[] = {
        {"ecparam -name secp384r1 -genkey -noout -out k", "curve P-256", "curve P-256"},
        {"ecparam -name secp256k1 -genkey -noout -out k", "curve P-256", "curve P-256"},
        {"genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out k", "curve P-256", "curve P-256"},
        {"genpkey -algorithm ED25519 -out k", "curve P-256", "curve P-256"},
        {"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes256 -pass pass:x -out k", "encrypted", nullptr},
        {"ecparam -name prime256v1 -genkey -out k", "EC PARAMETERS", nullptr}};
    for (const auto& c : cases) {
        ASSERT_EQ(openssl(c.make), 0) << text_of(folder / "error");
        const auto key = image::read_private_key((folder / "k").c_str());
        ASSERT_FALSE(key) << c.make;
        expect_part(key.error().text, c.private_says);
        if (c.public_says == nullptr) continue;
        ASSERT_EQ(openssl("pkey -in k -pubout -out k.pub"), 0);
        const auto pub = read_public_key((folder / "k.pub").c_str());
        ASSERT_FALSE(pub) << c.make;
        expect_part(pub.error().text, c.public_says);
    }
}

}  // namespace
}  // namespace slmd::test
