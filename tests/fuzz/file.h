// Readers that take a path: their input, in a file of this process in memory.
#pragma once
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace slmd::fuzz {

class Folder {
  public:
    Folder() {
        char name[] = "/dev/shm/slmd-fuzz-XXXXXX";
        const char* const made = mkdtemp(name);
        if (made == nullptr) abort();
        path_ = made;
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    const std::string& path() const { return path_; }
    std::string put(const std::string& name, std::string_view text) const {
        const std::string path = path_ + "/" + name;
        std::ofstream(path, std::ios::binary) << text;
        return path;
    }

  private:
    std::string path_;
};

}  // namespace slmd::fuzz
