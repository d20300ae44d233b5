// slmpack diff and apply.
#include "toolchain/slmpack/image/diff.h"

#include <cstdio>

#include "commands.h"
#include "image/delta.h"

namespace slmd::pack {

int run_diff(const std::string& before, const std::string& after, const std::string& delta) {
    auto done = write_diff(before, after, delta);
    if (!done) return fail(done.error().text);
    const DiffSummary& s = done.value();
    std::printf("%s: %.3f MB instead of %.3f; of %u frames %u are in %s already\n", delta.c_str(),
                static_cast<double>(s.bytes) / 1e6, static_cast<double>(s.new_bytes) / 1e6, s.frames, s.kept,
                before.c_str());
    return 0;
}

int run_apply(const std::string& before, const std::string& delta, const std::string& after) {
    const auto done = image::apply_delta(before.c_str(), delta.c_str(), after.c_str());
    return done ? 0 : fail(done.error().text);
}

}  // namespace slmd::pack
