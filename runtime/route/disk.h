// What the ledger and its kin ask of a folder of files, so that a test can stand below them: it counts what is written,
// and takes the power away at any of it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace slmd::route {

// Names are of files in one folder. Errors: storage_failure with the name and the reason.
class Disk {
  public:
    // Is shown each name; false ends it.
    using Look = bool (*)(void* context, const char* name);

    virtual ~Disk() = default;
    virtual Result<void> list(Look look, void* context) = 0;
    enum class How { existing, emptied, either };  // emptied, either: made where there is none
    // A handle, for the other calls.
    virtual Result<int> open(const char* name, How how) = 0;
    virtual void close(int file) = 0;
    virtual Result<std::uint64_t> size(int file) = 0;
    // How many bytes there were; fewer than asked for at the end of the file.
    virtual Result<std::size_t> read(int file, std::uint64_t at, std::span<std::byte> out) = 0;
    virtual Result<void> write(int file, std::uint64_t at, std::span<const std::byte> bytes) = 0;
    virtual Result<void> truncate(int file, std::uint64_t size) = 0;
    // What was written to it is there after a power cut.
    virtual Result<void> sync(int file) = 0;
    // In the place of another of that name, at once, and there after a power cut.
    virtual Result<void> rename(const char* from, const char* to) = 0;
    virtual Result<void> remove(const char* name) = 0;
    // That files of these names are there is so after a power cut, too.
    virtual Result<void> sync_names() = 0;
};

// A folder that is there. Its handle is opened at once, so that a sandbox may close behind it.
class Folder final : public Disk {
  public:
    Folder() = default;
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() override;
    // Makes the last part of the path where it is missing. Errors: storage_failure; busy: another process has it.
    Result<void> open_folder(const char* path);

    Result<void> list(Look look, void* context) override;
    Result<int> open(const char* name, How how) override;
    void close(int file) override;
    Result<std::uint64_t> size(int file) override;
    Result<std::size_t> read(int file, std::uint64_t at, std::span<std::byte> out) override;
    Result<void> write(int file, std::uint64_t at, std::span<const std::byte> bytes) override;
    Result<void> truncate(int file, std::uint64_t size) override;
    Result<void> sync(int file) override;
    Result<void> rename(const char* from, const char* to) override;
    Result<void> remove(const char* name) override;
    Result<void> sync_names() override;

  private:
    int fd_ = -1;
};

}  // namespace slmd::route
