#include "daemon/keep.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <utility>

#include "daemon/log.h"
#include "daemon/trust.h"

namespace slmd::daemon {
namespace {

struct Name {
    char text[sizeof HandedOver::Kept::name];

    Name(const image::Identity& identity, const image::Trust& trust) {
        snprintf(text, sizeof text, "image-%s%s", identity.hex, trust.keys.empty() ? "" : "-hashed");
    }
};

Result<image::Image> open_index(const char* path, const Config& config, const image::Trust& trust,
                                HandedOver& handed_over) {
    if (handed_over.image_count == 0) return image::Image::open_index(path, trust);
    const Name name(TRY(image::identity(path)), trust);
    for (int i = 0; i < handed_over.image_count; i++) {
        HandedOver::Kept& kept = handed_over.images[i];
        if (kept.fd < 0 || strcmp(kept.name, name.text) != 0) continue;
        auto image = image::Image::adopt(
            path, kept.fd,
            {.threads = loading_threads(config), .residency = image::Residency::on_demand, .trust = trust});
        if (image && strcmp(Name(image.value().identity(), trust).text, name.text) == 0) {
            kept.fd = -1;
            log(Level::info, {{"SLMD_EVENT", "image"}, {"SLMD_FROM", "store"}},
                "%s: kept in memory over the restart, the file is not read", path);
            return image;
        }
        log(Level::warning, {{"SLMD_EVENT", "image"}, {"SLMD_FROM", "store"}}, "%s",
            image ? "the image file was replaced just now" : image.error().text);
        if (image) kept.fd = -1;  // gone with the image
    }
    return image::Image::open_index(path, trust);
}

}  // namespace

Result<Images> adopt_images(const Config& config, const image::Trust& trust, HandedOver& handed_over, Notify& notify) {
    // What there is of a model that is streamed is too little to keep, and more than that too much.
    Images images{TRY(streams(config) ? image::Image::open_index(config.model_file, trust)
                                      : open_index(config.model_file, config, trust, handed_over)),
                  {},
                  {},
                  {},
                  trust,
                  {}};
    log_signer(config.model_file, images.model, trust);
    if (config.draft_model[0] != 0) {
        images.draft.emplace(TRY(open_index(config.draft_model, config, trust, handed_over)));
        log_signer(config.draft_model, *images.draft, trust);
    }
    for (int i = 0; i < config.adapter_count; i++) {
        const Config::Adapter& a = config.adapters[i];
        log_signer(a.path, images.adapters[i].emplace(TRY(open_adapter(a, trust, true))), trust);
    }
    if (config.embed_model[0] != 0) {
        images.embed.emplace(TRY(open_index(config.embed_model, config, trust, handed_over)));
        log_signer(config.embed_model, *images.embed, trust);
    }
    for (int i = 0; i < handed_over.image_count; i++) {
        HandedOver::Kept& kept = handed_over.images[i];
        if (kept.fd < 0) continue;
        log(Level::notice, {{"SLMD_EVENT", "image"}, {"SLMD_FROM", "store"}},
            "%s is given up: it is not that of an image file which is configured now", kept.name);
        close(std::exchange(kept.fd, -1));
        notify.drop(kept.name);
    }
    return images;
}

void keep_image(Notify& notify, const image::Image& image, const image::Trust& trust) {
    if (image.memfd() < 0 || image.layers() != nullptr || image.experts() != nullptr) return;
    if (!notify.store(image.memfd(), Name(image.identity(), trust).text))
        log(Level::warning, {{"SLMD_EVENT", "image"}},
            "systemd did not take the image: it will be read again after a restart");
}

}  // namespace slmd::daemon
