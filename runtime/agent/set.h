// All agents of a board: those of its folders, each good or with the reason why it is not.
#pragma once
#include <span>
#include <string_view>

#include "agent/agent.h"
#include "agent/pipeline.h"

namespace slmd::agent {

struct Entry {
    Agent agent;        // when it is good; its name in any case
    Pipeline pipeline;  // instead of it, when it has steps
    std::string_view file;
    std::string_view error;  // "file:line: what"; "": it is good
};

// Lives in one block of memory: reading another set leaves this one alone.
class Set {
  public:
    static constexpr std::size_t max_agents = 64;

    Set() = default;
    explicit Set(std::span<std::byte> block) : heap_(block) {}
    // The *.toml of all folders, by name; of agents of the same name the one of the last folder counts. What is wrong
    // with a file is kept as its entry's error. A folder that is not there has none. Errors: storage_failure where a
    // folder cannot be read; memory_full.
    Result<void> read(std::span<const char* const> folders);
    std::span<const Entry> entries() const { return {entries_, count_}; }
    const Entry* find(std::string_view name) const;

    int users = 0;  // requests that hold on to it

  private:
    Result<void> read_folder(const char* folder);
    Result<void> check_pipelines();
    std::string_view keep(std::string_view text);  // "" when there is no room
    static Error full();
    grammar::Heap heap_;
    Entry* entries_ = nullptr;  // [max_agents], sorted
    std::size_t count_ = 0;
};

}  // namespace slmd::agent
