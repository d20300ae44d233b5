// A key: in memory that is wiped, and in no message.
#pragma once
#include <cstddef>
#include <string_view>

#include "base/result.h"

namespace slmd::uplink {

class Secret {
  public:
    static constexpr std::size_t max_bytes = 1024;

    Secret() = default;
    Secret(const Secret&) = delete;
    Secret& operator=(const Secret&) = delete;
    ~Secret() { wipe(); }

    // The file's text without the end of its last line. Errors: storage_failure; not_permitted (everybody may read
    // it); invalid_characters (what no HTTP field may hold), text_too_long, incorrect_parameters (empty). None of them
    // repeats a byte of it.
    Result<void> read(const char* path);
    void wipe();
    std::string_view text() const { return {text_, size_}; }

  private:
    char text_[max_bytes] = "";
    std::size_t size_ = 0;
};

}  // namespace slmd::uplink
