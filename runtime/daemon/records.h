// What is kept of decisions: the ledger, and pairs to train on where an agent wants them. For the event loop's thread.
#pragma once
#include "base/arena.h"
#include "daemon/config.h"
#include "route/ledger.h"
#include "route/pairs.h"

namespace slmd::daemon {

class Records {
  public:
    // Nothing when the configuration keeps no ledger.
    void lay_out(Arena& arena, const Config& config);
    // Before the sandbox closes. Errors: storage_failure, busy.
    Result<void> open(const Config& config);
    void close();
    bool are_kept() const { return parts_ != nullptr; }
    // The record's sequence; 0: it is lost, which is logged, or none are kept. leaves: it is there after a power cut
    // when this returns, or lost.
    std::uint64_t append(const route::LedgerRecord& record, bool leaves);
    void learn(const route::Pair& pair);
    // Writes what is due; how long the loop may wait, in ms, given how long it would.
    int tick(int wait);

  private:
    static constexpr std::uint64_t pairs_bytes = 8u << 20;  // of an agent
    struct Parts {
        route::Folder folder, pairs_folder;
        route::Ledger ledger;
        route::Pairs pairs;
    };
    void complain(const Error& error);

    Parts* parts_ = nullptr;
    char* line_ = nullptr;  // [Pairs::line_bytes]
    bool open_ = false, complained_ = false;
};

}  // namespace slmd::daemon
