// The hydrated images outlive the process: systemd keeps their sealed memfds (FileDescriptorStoreMax= in the unit) and
// hands them over at the next start, which then reads no frame of the files, be it after a crash, a kill or an update.
// Each is kept by the name image-IDENTITY, so that an image whose file has changed meanwhile is not taken; with -hashed
// behind it when only images of allowed keys are run: then every hash of a signed one was checked, and its signature
// alone has to be looked at again. What was kept by the other name is not taken.
#pragma once
#include "daemon/notify.h"
#include "daemon/plan.h"

namespace slmd::daemon {

// As open_indexes(), but of those alone whom `trust` allows, and an image that was handed over, and is that of the file
// on disk, is taken whole: its memfd() is not -1. Adapters, which are small, are read again. What was handed over and
// is of no use is given up, before memory for another image is asked for. Logs which way it went.
Result<Images> adopt_images(const Config& config, const image::Trust& trust, HandedOver& handed_over, Notify& notify);

// Hands an image's memory to systemd. What it holds already by that name it does not take twice.
void keep_image(Notify& notify, const image::Image& image, const image::Trust& trust);

}  // namespace slmd::daemon
