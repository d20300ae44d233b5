// Pairs of what was asked and what the large model answered, kept where an agent's owner wants them, to train an
// adapter on: AGENT.jsonl in a folder, a line each, in the chat form that fine-tuning tools read. What is kept is what
// left the board, without its secrets.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "route/disk.h"

namespace slmd::route {

struct Pair {
    std::string_view agent;            // names the file: letters, digits, - and _
    std::string_view system;           // "": none
    std::string_view request, answer;  // as they left and came, with placeholders
};

class Pairs {
  public:
    static constexpr std::size_t line_bytes = 64 << 10;  // of a pair as it is written
    static constexpr std::size_t max_agents = 32;

    // bytes: of an agent's file, at most; a pair that does not fit is refused, for what is there is worth no less. The
    // buffer, line_bytes, and the disk are to outlive it.
    void open(Disk& disk, std::uint64_t bytes, std::span<char> buffer) {
        disk_ = &disk, bytes_ = bytes, buffer_ = buffer;
    }
    // There after a power cut when it returns; a line that a power cut left without an end is cut off first. Errors:
    // storage_failure; memory_full: the file has as much as it may; text_too_long; invalid_characters: of the agent's
    // name, or not UTF-8; incorrect_parameters: empty.
    Result<void> append(const Pair& pair);

  private:
    Disk* disk_ = nullptr;
    std::uint64_t bytes_ = 0;
    std::span<char> buffer_;
};

}  // namespace slmd::route
