// Files: read-only maps, and writes that either happen whole or not at all.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace slmd {

// A read-only map of a whole file. Errors: storage_failure with the path and the reason.
class MappedFile {
  public:
    static Result<MappedFile> open(const char* path);
    MappedFile(MappedFile&& o) noexcept : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
    MappedFile& operator=(MappedFile&& o) noexcept {
        std::swap(data_, o.data_);
        std::swap(size_, o.size_);
        return *this;
    }
    ~MappedFile();
    std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }

  private:
    MappedFile(void* data, std::size_t size) : data_(data), size_(size) {}
    void* data_;
    std::size_t size_;
};

// Writes PATH.tmp-PID beside PATH; commit() does fsync, rename, fsync of the folder. Without commit the old file stays
// and the temporary goes.
class AtomicFile {
  public:
    static Result<AtomicFile> create(const char* path);
    AtomicFile(AtomicFile&& o) noexcept;
    AtomicFile& operator=(AtomicFile&&) = delete;
    ~AtomicFile();
    Result<void> write(std::span<const std::byte> bytes);
    Result<void> write_at(std::size_t offset, std::span<const std::byte> bytes);
    Result<void> commit();

  private:
    AtomicFile() = default;
    int fd_ = -1;
    char path_[4096], temporary_[4096];
};

// A file of these bytes, as AtomicFile writes it.
Result<void> write_file(const char* path, std::span<const std::byte> bytes);

}  // namespace slmd
