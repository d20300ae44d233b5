// Reads a ledger's segments, oldest first, and says what in them is not as it was written.
#pragma once
#include <cstdint>
#include <span>

#include "base/result.h"
#include "route/ledger_format.h"

namespace slmd::route {

struct LedgerFault {
    std::uint64_t record;    // in its file, from 1 on; 0: the header, or the file
    std::uint64_t sequence;  // that it should have; 0: not known
    const char* field;       // "": cannot be said
    int bit;                 // of the field, the one that changed; below 0: cannot be said
    char text[200];          // "record 17 (sequence 4711): confidence: bit 3 has changed"
};

class LedgerReader {
  public:
    virtual void record(const LedgerRecord& record, std::uint64_t place) = 0;  // place: in its file, from 1 on
    virtual void fault(const LedgerFault& fault) = 0;

  protected:
    ~LedgerReader() = default;
};

// What a segment is to continue.
struct LedgerChain {
    bool begun = false;
    std::uint64_t number = 0, next_sequence = 0;
    Sha256 hash{}, other{};  // of the last record, as it says and as it should be
    std::uint64_t records = 0, faults = 0;
};

// One segment's bytes. Each record that verifies is shown, and each fault; a bit that changed is found by changing it
// back. Errors: unknown, when the crypto library refuses.
Result<void> verify_segment(std::span<const std::byte> bytes, LedgerChain& chain, LedgerReader& reader);

}  // namespace slmd::route
