// The KV state of the beginning of a prompt, kept in a folder over restarts: what was computed once for an agent need
// not be computed after every boot.
//
// A file, NAME.kv, is a Header, the tokens (int32 each) and one zstd frame with Engine::piece() one after the other;
// all integers little-endian. NAME is the first half of the key in hex. Such a file is as trustworthy as the folder:
// its hash finds damage, not intent.
#pragma once
#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/sha256.h"
#include "engine/engine.h"

namespace slmd::engine {

class Snapshots {
  public:
    static constexpr int max_files = 64;
    static constexpr int least_tokens = 48;  // that are worth a file
    // What it works in after open().
    static std::size_t memory_bytes();

    // What is in the folder, which may hold other files, too; together at most `limit` bytes: what was not used for the
    // longest time goes. Allocates. Errors: storage_failure.
    Result<void> open(const char* folder, std::uint64_t limit, std::span<std::byte> memory);
    bool is_open() const { return memory_.size() > 0; }
    // Those that the image has of itself: found where the folder has none. Must outlive it; {}: none.
    void bake(std::span<const std::byte> section) { baked_ = section; }
    // Nothing is kept from now on.
    void close() { memory_ = {}; }

    // Of a prompt's first tokens under this image's tensors and params (and whatever else decides about K and V, in
    // `more`) and the order of operations of this version.
    static Result<Sha256> key(const image::RawHeader& header, std::span<const std::byte> more,
                              std::span<const std::int32_t> tokens);
    bool has(const Sha256& key) const { return find(key) != nullptr || !baked(key).empty(); }
    // What a file of this format holds for that image and is whole: nothing is decoded but its tokens counted. Errors:
    // model_integrity, which says what is wrong.
    static Result<std::uint32_t> check(std::span<const std::byte> file, const image::RawHeader& header);

    // Keeps the tokens, with which a slot begins. Errors: storage_failure; memory_full when one is larger than all that
    // may be kept.
    Result<void> save(Engine& engine, int slot, std::span<const std::int32_t> tokens, const Sha256& key);
    // The slot then holds the tokens with the bits that computing them gives. Errors: storage_failure;
    // model_integrity, naming the file, which is removed: the slot holds nothing then.
    Result<void> load(Engine& engine, int slot, std::span<const std::int32_t> tokens, const Sha256& key,
                      int adapter = no_adapter);

  private:
    struct File {
        Sha256 key;  // only its first half is known of a file that was there
        std::uint64_t bytes;
        std::int64_t used;  // later: larger
    };
    const File* find(const Sha256& key) const;
    class Bytes;
    Result<void> read(Engine& engine, int slot, std::span<const std::int32_t> tokens, const Sha256& key,
                      const char* path, Bytes& from) const;
    // The file's bytes in the image; empty: it has none.
    std::span<const std::byte> baked(const Sha256& key) const;
    void path_of(const Sha256& key, char (&path)[512]) const;
    void drop(const File& file);

    char folder_[400] = "";
    std::uint64_t limit_ = 0;
    std::span<std::byte> memory_;
    std::span<const std::byte> baked_;
    File files_[max_files];
    int count_ = 0;
    std::int64_t now_ = 0;
};

}  // namespace slmd::engine
