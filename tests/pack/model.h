// Where the tests find the real models.
#pragma once
#include <cstdlib>
#include <string>

namespace slmd {

inline std::string model_path(const char* file = "SmolLM2-135M-Instruct.Q4_1.gguf") {
    const char *own = std::getenv("SLMD_CACHE"), *xdg = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
    const std::string folder = own   ? own
                               : xdg ? std::string(xdg) + "/slmd"
                                     : std::string(home ? home : "") + "/.cache/slmd";
    return folder + "/" + file;
}

}  // namespace slmd
