// Whose images slmd runs: allowed_keys and require_signature of the configuration.
#pragma once
#include "daemon/config.h"
#include "image/image.h"
#include "image/keys.h"

namespace slmd::daemon {

struct TrustedKeys {
    image::PublicKey keys[Config::max_keys];
    int count = 0;
    bool required = false;
    image::Trust trust() const { return {{keys, static_cast<std::size_t>(count)}, required}; }
};

// Reads the key files that the configuration names. Errors: incorrect_parameters as "file:line: ...".
Result<void> read_keys(const Config& config, TrustedKeys& out);

// Says in the log by whom an image is signed, and warns of one that is not: where there are keys.
void log_signer(const char* path, const image::Image& image, const image::Trust& trust);

}  // namespace slmd::daemon
