// Calibration text that the model writes itself: what it knows is what it is likely to see, and no data set is needed.
#pragma once
#include <functional>
#include <span>

#include "engine/engine.h"
#include "survey.h"

namespace slmd::pack {

// `count` sequences of `window` tokens, drawn at temperature 1 from all of the vocabulary. Sequence i begins with
// start[i % start.size()]. The same engine and counts give the same tokens. Errors: those of the engine.
Result<std::vector<Sequence>> sample_sequences(engine::Engine& engine, std::size_t count, std::size_t window,
                                               std::span<const std::int32_t> start,
                                               const std::function<void(double part)>& progress);

}  // namespace slmd::pack
