#include "daemon/keep.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <utility>

#include "daemon/log.h"

namespace slmd::daemon {
namespace {

constexpr char prefix[] = "image-";

Result<image::Image> open_index(const char* path, const Config& config, HandedOver& handed_over) {
    if (handed_over.image_count == 0) return image::Image::open_index(path);
    char name[sizeof HandedOver::Kept::name];
    snprintf(name, sizeof name, "%s%s", prefix, TRY(image::identity(path)).hex);
    for (int i = 0; i < handed_over.image_count; i++) {
        HandedOver::Kept& kept = handed_over.images[i];
        if (kept.fd < 0 || strcmp(kept.name, name) != 0) continue;
        auto image = image::Image::adopt(path, kept.fd, loading_threads(config));
        if (image && strcmp(image.value().identity().hex, name + sizeof prefix - 1) == 0) {
            kept.fd = -1;
            log(Level::info, {{"SLMD_EVENT", "image"}, {"SLMD_FROM", "store"}},
                "%s: kept in memory over the restart, the file is not read", path);
            return image;
        }
        log(Level::warning, {{"SLMD_EVENT", "image"}, {"SLMD_FROM", "store"}}, "%s",
            image ? "the image file was replaced just now" : image.error().text);
        if (image) kept.fd = -1;  // gone with the image
    }
    return image::Image::open_index(path);
}

}  // namespace

Result<Images> adopt_images(const Config& config, HandedOver& handed_over, Notify& notify) {
    Images images{TRY(open_index(config.model, config, handed_over)), {}};
    if (config.draft_model[0] != 0) images.draft.emplace(TRY(open_index(config.draft_model, config, handed_over)));
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

void keep_image(Notify& notify, const image::Image& image) {
    if (image.memfd() < 0) return;
    char name[sizeof HandedOver::Kept::name];
    snprintf(name, sizeof name, "%s%s", prefix, image.identity().hex);
    if (!notify.store(image.memfd(), name))
        log(Level::warning, {{"SLMD_EVENT", "image"}},
            "systemd did not take the image: it will be read again after a restart");
}

}  // namespace slmd::daemon
