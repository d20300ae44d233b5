#include "daemon/records.h"

#include <stdio.h>

#include <algorithm>
#include <new>

#include "daemon/log.h"

namespace slmd::daemon {

using route::Ledger;

void Records::lay_out(Arena& arena, const Config& config) {
    if (config.ledger_mib <= 0) return;
    parts_ = arena.scratch<Parts>(1);
    line_ = arena.scratch<char>(route::Pairs::line_bytes);
    if (parts_ != nullptr) new (parts_) Parts;
}

Result<void> Records::open(const Config& config) {
    if (!are_kept()) return {};
    char path[sizeof config.state + 16];
    snprintf(path, sizeof path, "%s/pairs", config.state);
    TRY(parts_->pairs_folder.open_folder(path));
    snprintf(path, sizeof path, "%s/ledger", config.state);
    TRY(parts_->folder.open_folder(path));
    Ledger::Config how;
    how.bytes = static_cast<std::uint64_t>(config.ledger_mib) << 20;
    const auto found = TRY(parts_->ledger.open(parts_->folder, how, Ledger::Time::now()));
    open_ = true;
    if (found.torn_bytes > 0)
        log(Level::notice, {{"SLMD_EVENT", "ledger"}}, "%s: %llu bytes that were never acknowledged are cut off", path,
            static_cast<unsigned long long>(found.torn_bytes));
    if (found.damaged > 0 || found.restarted)
        log(Level::error, {{"SLMD_EVENT", "ledger"}},
            "%s: %llu records do not verify%s; slmctl ledger verify names them", path,
            static_cast<unsigned long long>(found.damaged), found.restarted ? ", and the chain begins anew" : "");
    parts_->pairs.open(parts_->pairs_folder, pairs_bytes, {line_, route::Pairs::line_bytes});
    return {};
}

void Records::close() {
    if (!are_kept()) return;
    if (open_)
        if (const auto done = parts_->ledger.stop(Ledger::Time::now()); !done) complain(done.error());
    parts_->~Parts();
    parts_ = nullptr;
}

// Once, until it works again: a full disk would fill the journal, too.
void Records::complain(const Error& error) {
    if (!complained_) log(Level::error, {{"SLMD_EVENT", "ledger"}}, "the ledger: %s", error.text);
    complained_ = true;
}

std::uint64_t Records::append(const route::LedgerRecord& record, bool leaves) {
    if (!are_kept()) return 0;
    const auto now = Ledger::Time::now();
    const auto sequence = parts_->ledger.append(record, now, leaves);
    if (!sequence) return complain(sequence.error()), 0;
    if (!leaves) return sequence.value();
    if (const auto done = parts_->ledger.commit(now); !done) return complain(done.error()), 0;
    return sequence.value();
}

void Records::learn(const route::Pair& pair) {
    if (!are_kept()) return;
    if (const auto kept = parts_->pairs.append(pair); !kept)
        log(Level::warning, {{"SLMD_EVENT", "pairs"}}, "a pair of agent %.*s is not kept: %s",
            static_cast<int>(pair.agent.size()), pair.agent.data(), kept.error().text);
}

int Records::tick(int wait) {
    if (!are_kept()) return wait;
    const auto now = Ledger::Time::now();
    if (parts_->ledger.due(now)) {
        const auto done = parts_->ledger.commit(now);
        if (done)
            complained_ = false;
        else
            complain(done.error());
    }
    const std::int64_t due = parts_->ledger.due_ms();
    if (due == INT64_MAX) return wait;
    const auto ms = static_cast<int>(std::clamp<std::int64_t>(due - now.uptime_ms, 1, 60'000));
    return wait < 0 ? ms : std::min(wait, ms);
}

}  // namespace slmd::daemon
