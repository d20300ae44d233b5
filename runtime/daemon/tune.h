// Thread counts that fit this machine and this model: measured once, then kept in the state folder.
#pragma once
#include "engine/threads.h"
#include "image/image.h"

namespace slmd::daemon {

// Sets the engine's thread counts to what FOLDER/threads says of this model on this level and machine; measures and
// writes it when it says nothing. True when it measured. Errors: the engine's; storage_failure, when what was measured,
// and is in use, could not be kept.
Result<bool> tune(engine::Engine& engine, const image::Image& model, const char* folder);

}  // namespace slmd::daemon
