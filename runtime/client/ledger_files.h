// The files of a ledger, for the commands of slmctl that read them.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "route/ledger_verify.h"

namespace slmd::client {

constexpr char ledger_folder[] = "/var/lib/slmd/ledger";

// Of records and faults in the order of the chain.
class LedgerVisitor {
  public:
    virtual ~LedgerVisitor() = default;
    virtual void record(const route::LedgerRecord& record) = 0;
    virtual void fault(const std::string& file, const route::LedgerFault& fault) = 0;
};

// The paths, each folder replaced by the files in it that are wanted by their name. Errors: storage_failure.
Result<std::vector<std::string>> files_of(std::span<const char* const> paths,
                                          const std::function<bool(const std::string&)>& wanted);
// Folders stand for all segments in them; none: ledger_folder. Errors: storage_failure, not_found.
Result<std::vector<std::string>> ledger_paths(std::span<const char* const> paths);
// Reads and verifies them. Errors: storage_failure, unknown.
Result<route::LedgerChain> read_ledger(const std::vector<std::string>& files, LedgerVisitor& visitor);

// What stands in a record, which may be anything, for people.
const char* answer_name(const route::LedgerRecord& record);
const char* reason_name(const route::LedgerRecord& record);
std::string agent_name(const route::LedgerRecord& record);  // in printable ASCII
std::string hex_of(std::span<const std::uint8_t> bytes);
std::string time_text(std::int64_t wall_ms);  // 2026-01-31T23:59:59Z

// "2026-01-31" (UTC), or "7d", "12h": so long before now. Errors: incorrect_parameters.
Result<std::int64_t> since_ms(const char* text, std::int64_t now_ms);

// Errors: storage_failure.
Result<void> write_text(const char* path, const std::string& text);

// Of sorted numbers, the smallest that reaches that share of them; 0 when there are none.
double percentile(std::span<const std::uint32_t> sorted, double share);

}  // namespace slmd::client
