#include "daemon/trust.h"

#include "daemon/log.h"
#include "image/signature.h"

namespace slmd::daemon {

Result<void> read_keys(const Config& config, TrustedKeys& out) {
    out.count = 0;
    out.required = config.require_signature;
    for (int i = 0; i < config.key_count; i++) {
        const auto key = image::read_public_key(config.allowed_keys[i].path);
        if (!key)
            return Error::make(Code::incorrect_parameters, "%s:%u: allowed_keys: %s", config.file,
                               config.allowed_keys[i].line, key.error().text);
        out.keys[out.count++] = key.value();
    }
    return {};
}

void log_signer(const char* path, const image::Image& image, const image::Trust& trust) {
    if (trust.keys.empty()) return;
    if (image::is_signed(image.header())) {
        const auto name = image::name_of(image::signer(image.header()));
        log(Level::info, {{"SLMD_EVENT", "image"}, {"SLMD_KEY", name.hex}}, "%s: signed by key %s", path, name.hex);
    } else {
        log(Level::warning, {{"SLMD_EVENT", "image"}, {"SLMD_KEY", ""}},
            "%s: not signed, and taken all the same, because require_signature = false", path);
    }
}

}  // namespace slmd::daemon
