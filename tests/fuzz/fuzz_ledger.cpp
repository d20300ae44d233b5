// LINK: slmd_route
// A ledger's segment that may be anything: it is read and continued, and what is appended then is there, in one chain.
#include <cstdlib>
#include <cstring>

#include "../route/ledger_records.h"
#include "../route/memory_disk.h"
#include "route/ledger.h"
#include "route/ledger_verify.h"

namespace {

using namespace slmd::route;

struct Count final : LedgerReader {
    std::uint64_t records = 0, faults = 0, last = 0;
    bool found = false;
    void record(const LedgerRecord& r, std::uint64_t) override {
        (void)facts_of(r), (void)agent_of(r), (void)name_of(r.kind), (void)name_of(r.task);
        records++, last = r.sequence;
        found = found || r.id == 100 + 77;
    }
    void fault(const LedgerFault& f) override {
        if (f.text[0] == 0 || std::strlen(f.text) >= sizeof f.text) abort();
        faults++;
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size > 4096) return 0;
    const std::string bytes(reinterpret_cast<const char*>(data), size);
    Count before;
    // One input of 16 looks for the bit that changed, which takes long.
    const std::uint64_t faults = size != 0 && data[size - 1] % 16 == 7 ? 0 : 100;
    LedgerChain chain{.faults = faults};
    if (!verify_segment(std::as_bytes(std::span(bytes)), chain, before)) abort();

    slmd::route::testing::MemoryDisk disk;
    disk.files["00000001.ledger"].now = disk.files["00000001.ledger"].durable = bytes;
    const Ledger::Time now{1'700'000'000'000, 5000};
    {
        Ledger ledger;
        if (!ledger.open(disk, {.bytes = 256u << 10}, now)) abort();
        if (!ledger.append(slmd::route::testing::decision_record(77), now) || !ledger.stop(now)) abort();
    }
    Ledger again;
    const auto found = again.open(disk, {.bytes = 256u << 10}, now);
    if (!found || found.value().torn_bytes != 0 || found.value().restarted) abort();
    Count after;
    LedgerChain all{.faults = faults};
    for (const auto& [name, f] : disk.files)
        if (!verify_segment(std::as_bytes(std::span(f.now)), all, after)) abort();
    if (!after.found) abort();
    return 0;
}
