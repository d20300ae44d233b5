// A machine's sysfs, procfs and /dev in a folder of its own.
#pragma once
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "hal/hardware.h"

namespace slmd::testing {

class Tree {
  public:
    Tree() {
        char name[] = "/tmp/slmd-tree-XXXXXX";
        folder_ = mkdtemp(name);
    }
    ~Tree() { std::filesystem::remove_all(folder_); }
    Tree(const Tree&) = delete;
    std::string path(const std::string& name) const { return folder_ + "/" + name; }
    void put(const std::string& name, const std::string& text) const {
        std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
        std::ofstream(path(name), std::ios::binary) << text;
    }
    std::string get(const std::string& name) const {
        std::ifstream f(path(name), std::ios::binary);
        return {std::istreambuf_iterator<char>(f), {}};
    }
    void drop(const std::string& name) const { std::filesystem::remove_all(path(name)); }
    hal::Root root() const { return std::move(hal::Root::open(folder_.c_str())).value(); }
    std::unique_ptr<hal::Hardware> hardware(const hal::BoardFile& board = {}) const {
        return std::move(hal::open_linux(root(), board)).value();
    }

  private:
    std::string folder_;
};

}  // namespace slmd::testing
