#include "daemon/tune.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/file.h"

namespace slmd::daemon {

Result<bool> tune(engine::Engine& engine, const image::Image& model, const char* folder) {
    char path[512], about[256], line[320];
    std::snprintf(path, sizeof path, "%s/threads", folder);
    const image::ModelParams& p = model.params();
    std::snprintf(about, sizeof about, "model \"%.64s\" of %llu bytes, level %s, %d threads:", p.name,
                  static_cast<unsigned long long>(model.sizes().raw), engine.level(), engine.threads());
    if (const auto file = MappedFile::open(path)) {
        const auto bytes = file.value().bytes();
        std::snprintf(line, sizeof line, "%.*s", static_cast<int>(std::min(bytes.size(), sizeof line - 1)),
                      reinterpret_cast<const char*>(bytes.data()));
        engine::Threads known{};
        if (std::strncmp(line, about, std::strlen(about)) == 0 &&
            std::sscanf(line + std::strlen(about), " prefill %d decode %d", &known.prefill, &known.decode) == 2) {
            engine.work_with(known.prefill, known.decode);
            return false;
        }
    }
    const engine::Threads best = TRY(engine::measure_threads(engine));
    const int n = std::snprintf(line, sizeof line, "%s prefill %d decode %d\n", about, best.prefill, best.decode);
    TRY(write_file(path, std::as_bytes(std::span(line, static_cast<std::size_t>(n)))));
    return true;
}

}  // namespace slmd::daemon
