// How many threads are best on this machine: measured, since a board's memory may be busy before its cores are.
#pragma once
#include "engine/engine.h"

namespace slmd::engine {

struct Threads {
    int prefill, decode;
};

// Prefill and decode with 1 .. engine.threads() threads; of those within 3 % of the fastest the fewest. Computes some
// tokens in slot 0 and forgets them; the engine works with what was found afterwards. Takes about as long as 16 tokens
// and one batch for each number of threads. Errors: the engine's.
Result<Threads> measure_threads(Engine& engine);

}  // namespace slmd::engine
