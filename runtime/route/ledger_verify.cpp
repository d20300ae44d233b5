#include "route/ledger_verify.h"

#include <algorithm>
#include <bit>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "base/bytes.h"

namespace slmd::route {
namespace {

constexpr std::size_t record_bytes = sizeof(LedgerRecord), hash_at = offsetof(LedgerRecord, hash);
static_assert(hash_at == offsetof(LedgerHeader, hash));

const LedgerField& field_at(std::span<const LedgerField> fields, std::size_t byte) {
    std::size_t i = fields.size() - 1;
    while (fields[i].begin > byte) i--;
    return fields[i];
}

// The bit in which two digests differ; below 0: not in one alone.
int one_bit(const std::uint8_t* a, const std::uint8_t* b) {
    int found = -1;
    for (int i = 0; i < 32; i++) {
        const unsigned differs = a[i] ^ b[i];
        if (differs == 0) continue;
        if (found >= 0 || !std::has_single_bit(differs)) return -1;
        found = i * 8 + std::countr_zero(differs);
    }
    return found;
}

// The bit of 256 bytes without which their last 32 are `hash_of` of what is before them; below 0: there is none.
template <class Block, class Hash>
Result<int> changed_bit(const Block& block, const Hash& hash_of) {
    const Sha256 now = TRY(hash_of(block));
    if (const int bit = one_bit(now.data(), block.hash); bit >= 0) return static_cast<int>(hash_at) * 8 + bit;
    Block tried = block;
    auto* const bytes = reinterpret_cast<std::uint8_t*>(&tried);
    for (std::size_t i = 0; i < hash_at * 8; i++) {
        const auto mask = static_cast<std::uint8_t>(1u << i % 8);
        bytes[i / 8] ^= mask;
        const Sha256 hash = TRY(hash_of(tried));
        if (std::memcmp(hash.data(), tried.hash, hash.size()) == 0) return static_cast<int>(i);
        bytes[i / 8] ^= mask;
    }
    return -1;
}

class Segment {
  public:
    Segment(std::span<const std::byte> bytes, LedgerChain& chain, LedgerReader& reader)
        : bytes_(bytes), chain_(chain), reader_(reader) {}
    Result<void> verify() {
        LedgerHeader header{};
        std::memcpy(&header, bytes_.data(), std::min(bytes_.size(), sizeof header));
        TRY(read_header(header));
        bool ended = false;
        std::size_t at = sizeof header;
        for (; at + record_bytes <= bytes_.size(); at += record_bytes) {
            LedgerRecord r;
            std::memcpy(&r, bytes_.data() + at, sizeof r);
            const int bits = set_bits(at, record_bytes);
            ended = ended || bits == 0;
            if (ended) {
                if (bits != 0) behind_the_end(at, record_bytes, bits);
                continue;
            }
            // One bit where a record would be, and nothing behind it: those were zeros.
            if (bits == 1) {
                ended = true;
                behind_the_end(at, record_bytes, bits);
                continue;
            }
            TRY(read_record(r, at / record_bytes));
        }
        if (const int bits = at < bytes_.size() ? set_bits(at, bytes_.size() - at) : 0; bits != 0)
            behind_the_end(at, bytes_.size() - at, bits);
        return {};
    }

  private:
    // 0, 1 or 2: or more.
    int set_bits(std::size_t at, std::size_t size) const {
        int n = 0;
        for (std::size_t i = at; i < at + size && n < 2; i++) n += std::popcount(static_cast<std::uint8_t>(bytes_[i]));
        return std::min(n, 2);
    }

    [[gnu::format(printf, 6, 7)]] void fault(std::uint64_t record, std::uint64_t sequence, const char* field, int bit,
                                             const char* format, ...) {
        LedgerFault f{record, sequence, field, bit, {}};
        va_list args;
        va_start(args, format);
        std::vsnprintf(f.text, sizeof f.text, format, args);
        va_end(args);
        chain_.faults++;
        reader_.fault(f);
    }

    void behind_the_end(std::size_t at, std::size_t size, int bits) {
        std::size_t i = at;
        while (bytes_[i] == std::byte{}) i++;
        const int bit = std::countr_zero(static_cast<std::uint8_t>(bytes_[i]));
        if (bits == 1)
            fault(at / record_bytes, 0, "end", static_cast<int>(i - at) * 8 + bit,
                  "the zeros behind the last record: byte %zu: bit %d has changed", i, bit);
        else
            fault(at / record_bytes, 0, "", -1,
                  "the zeros behind the last record: bytes %zu to %zu: something is there", i, at + size);
    }

    Result<void> read_header(LedgerHeader& h) {
        const char* const wrong = TRY(check_header(h));
        bool good = *wrong == 0;
        if (!good) {
            const int bit = TRY(changed_bit(h, [](const LedgerHeader& x) { return ledger_hash(x); }));
            if (bit >= 0) {
                const LedgerField& f = field_at(ledger_header_fields(), static_cast<std::size_t>(bit) / 8);
                const int of_field = bit - static_cast<int>(f.begin) * 8;
                fault(0, 0, f.name, of_field, "the header: %s: bit %d has changed", f.name, of_field);
                reinterpret_cast<std::uint8_t*>(&h)[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
                good = true;
            } else {
                fault(0, 0, "", -1, "the header: %s", wrong);
            }
        }
        if (!good) {  // its records are taken as they continue the chain
            known_ = chain_.begun;
            chain_.number++;
            return {};
        }
        Sha256 anchor;
        std::memcpy(anchor.data(), h.anchor, anchor.size());
        if (chain_.begun && h.number != chain_.number + 1)
            fault(0, 0, "number", -1, "segments %08llx to %08llx are missing before it",
                  static_cast<unsigned long long>(chain_.number + 1), static_cast<unsigned long long>(h.number - 1));
        else if (chain_.begun &&
                 (h.first_sequence != chain_.next_sequence || (anchor != chain_.hash && anchor != chain_.other)))
            fault(0, 0, "anchor", -1,
                  "it continues record %llu, and the segment before it ends with another; records are missing or were "
                  "replaced",
                  static_cast<unsigned long long>(h.first_sequence - 1));
        chain_.begun = known_ = true;
        chain_.number = h.number;
        chain_.next_sequence = h.first_sequence;
        chain_.hash = chain_.other = anchor;
        return {};
    }

    Result<void> read_record(const LedgerRecord& r, std::uint64_t place) {
        Sha256 found;
        std::memcpy(found.data(), r.hash, found.size());
        if (!known_) {  // nothing to compare it with
            known_ = chain_.begun = true;
            chain_.next_sequence = r.sequence + 1;
            chain_.hash = chain_.other = found;
            fault(place, r.sequence, "", -1, "record %llu: what it follows is not known",
                  static_cast<unsigned long long>(place));
            return {};
        }
        const std::uint64_t sequence = chain_.next_sequence++;
        const Sha256 before = chain_.hash, other = chain_.other;
        Sha256 wanted = TRY(ledger_hash(before, r));
        bool good = found == wanted;
        if (!good && other != before) {
            const Sha256 second = TRY(ledger_hash(other, r));
            if (found == second) good = true, wanted = second;
        }
        chain_.hash = found, chain_.other = wanted;
        if (good && r.sequence == sequence) {
            chain_.records++;
            reader_.record(r, place);
            return {};
        }
        if (good) {
            fault(place, sequence, "sequence", -1, "record %llu: its sequence is %llu, and %llu was to follow",
                  static_cast<unsigned long long>(place), static_cast<unsigned long long>(r.sequence),
                  static_cast<unsigned long long>(sequence));
            chain_.next_sequence = r.sequence + 1;
            return {};
        }
        // Where so much is wrong, it is no single bit, and looking for it would take long.
        const bool look = chain_.faults < 100;
        int bit = look ? TRY(changed_bit(r, [&](const LedgerRecord& x) { return ledger_hash(before, x); })) : -1;
        if (look && bit < 0 && other != before)
            bit = TRY(changed_bit(r, [&](const LedgerRecord& x) { return ledger_hash(other, x); }));
        if (bit < 0) {
            fault(
                place, sequence, "", -1,
                "record %llu (sequence %llu): it does not have its hash: changed, or cut off by a power cut that slmd "
                "has not seen yet",
                static_cast<unsigned long long>(place), static_cast<unsigned long long>(sequence));
            return {};
        }
        const LedgerField& f = field_at(ledger_fields(), static_cast<std::size_t>(bit) / 8);
        const int of_field = bit - static_cast<int>(f.begin) * 8;
        fault(place, sequence, f.name, of_field, "record %llu (sequence %llu): %s: bit %d has changed",
              static_cast<unsigned long long>(place), static_cast<unsigned long long>(sequence), f.name, of_field);
        return {};
    }

    std::span<const std::byte> bytes_;
    LedgerChain& chain_;
    LedgerReader& reader_;
    bool known_ = true;  // what the next record follows
};

}  // namespace

Result<void> verify_segment(std::span<const std::byte> bytes, LedgerChain& chain, LedgerReader& reader) {
    return Segment(bytes, chain, reader).verify();
}

}  // namespace slmd::route
