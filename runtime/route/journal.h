// A file of records, one behind the other. After a power cut it has all that was committed, and of what was not, a
// beginning; a record is there whole or not at all. Behind them are zeros, filled in ahead: a commit then changes a
// block of data, and nothing of the file system, which is what an SD card is spared.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace slmd::route {

// A record as it lies in the file: this, its text, zeros up to 8 bytes.
struct RecordHeader {
    std::uint32_t magic, crc;  // crc: CRC-32C of what follows it, the text included
    std::uint32_t size;        // of the text, bytes
    std::uint32_t type;
};
static_assert(sizeof(RecordHeader) == 16);

class Journal {
  public:
    static constexpr std::uint32_t magic = 0x4A4D4C53;   // "SLMJ"
    static constexpr std::size_t max_record = 262144;    // bytes of a text
    static constexpr std::uint64_t chunk_bytes = 65536;  // by which the file grows

    // A text in the file, to be read again.
    struct Place {
        std::uint64_t at = 0;
        std::uint32_t size = 0;
    };
    class Visitor {
      public:
        virtual Result<void> record(std::uint32_t type, std::string_view text, Place place) = 0;

      protected:
        ~Visitor() = default;
    };
    // What reading it found beside good records.
    struct Found {
        std::uint64_t torn = 0;  // bytes behind the last good record, which are gone now
        int damaged = 0;         // records before it, which are passed over
    };

    Journal() = default;
    Journal(Journal&& o) noexcept { *this = std::move(o); }
    Journal& operator=(Journal&& o) noexcept;
    ~Journal();
    // Opens it, or makes it, and shows the visitor each record. scratch: for one record, max_record bytes. Errors:
    // storage_failure, busy (another process has it); the visitor's.
    Result<Found> open(const char* path, std::span<char> scratch, Visitor& visitor);
    // Behind all others, its text in two parts; there after a power cut once commit() has returned. Errors:
    // storage_failure, text_too_long: nothing was appended.
    Result<Place> append(std::uint32_t type, std::string_view head, std::string_view rest = {});
    Result<void> commit();
    bool changed() const { return changed_; }  // since the last commit
    // Errors: storage_failure, check_failed (it is damaged), text_too_long.
    Result<std::string_view> read(Place place, std::span<char> out) const;
    std::uint64_t size() const { return end_; }
    std::uint64_t commits() const { return commits_; }  // that had something to write

    // Begins a new file of that name, into which everything that is still wanted is appended; replace() then puts it
    // in the place of this one. Errors: storage_failure: this one stays as it is.
    Result<Journal> successor() const;
    Result<void> replace(Journal&& next);

  private:
    Result<void> fill(std::uint64_t end);

    int fd_ = -1;
    bool changed_ = false;
    std::uint64_t end_ = 0, filled_ = 0;  // of the records; of the zeros behind them
    std::uint64_t commits_ = 0;
    char path_[288] = "", temporary_[296] = "";
};

}  // namespace slmd::route
