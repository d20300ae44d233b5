// Records as a daemon makes them, each another.
#pragma once
#include <cstring>
#include <string>

#include "route/ledger_format.h"

namespace slmd::route::testing {

inline void digest_of(std::string_view text, std::uint8_t (&out)[32]) {
    const Sha256 hash = sha256(std::as_bytes(std::span(text))).value();
    std::memcpy(out, hash.data(), sizeof out);
}

// Every fifth one leaves for doubt, the others stay.
inline LedgerRecord decision_record(int i) {
    LedgerRecord r{};
    r.kind = LedgerKind::decision;
    r.task = LedgerTask::run;
    const Facts f{.policy = Policy::allowed,
                  .cut = false,
                  .calibrated = true,
                  .confidence = i % 5 == 0 ? 0.4f : 0.9f,
                  .threshold = 0.7f,
                  .affordable = true,
                  .link = true};
    set_facts(r, f, decide(f));
    set_agent(r, i % 2 == 0 ? "ticket" : "invoice");
    digest_of("request " + std::to_string(i), r.request);
    digest_of("answer " + std::to_string(i), r.result);
    std::memset(r.image, 0x5a, sizeof r.image);
    r.id = 100 + static_cast<std::uint64_t>(i);
    r.seed = 7;
    r.checks_passed = 3;
    r.tokens_in = 120, r.tokens_out = 20;
    r.queue_ms = 1, r.prefill_ms = 200 + static_cast<std::uint32_t>(i % 100), r.decode_ms = 300;
    return r;
}

inline LedgerRecord outcome_record(int i, std::uint64_t refers = 0) {
    LedgerRecord r{};
    r.kind = LedgerKind::outcome;
    r.code = static_cast<std::uint8_t>(LedgerOutcome::settled);
    r.refers = refers;
    r.id = 100 + static_cast<std::uint64_t>(i);
    set_agent(r, i % 2 == 0 ? "ticket" : "invoice");
    digest_of("better answer " + std::to_string(i), r.result);
    r.tokens_in = 130, r.tokens_out = 25, r.bytes_out = 800, r.bytes_in = 400, r.remote_ms = 900;
    r.cost_micro = 450;
    return r;
}

}  // namespace slmd::route::testing
