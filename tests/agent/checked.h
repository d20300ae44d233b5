// Checks as a file has them, and what they find.
#pragma once
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "agent/checks.h"

namespace slmd::agent {

// The [[check]]s of a file, with the memory that they live in.
struct Checks {
    explicit Checks(std::size_t bytes = 4u << 20) : block(new std::byte[bytes]), heap({block.get(), bytes}) {}
    Result<void> read(const std::string& path) {
        const hal::TomlFile file{path.c_str()};
        const toml::table root = TRY(file.parse());
        const toml::array* const list = root["check"].as_array();
        if (list == nullptr) return Error::make(Code::incorrect_parameters, "%s: no [[check]]", path.c_str());
        for (const toml::node& node : *list) {
            if (!node.is_table()) return file.at(node, "[[check]] is a table");
            checks.push_back(TRY(read_check(file, *node.as_table(), heap)));
        }
        return {};
    }
    std::unique_ptr<std::byte[]> block;
    grammar::Heap heap;
    std::vector<Check> checks;
};

// In exactly the memory that examine() asks for, so that a byte too many is seen.
inline Result<std::vector<Finding>> findings(const std::vector<Check>& checks, std::string_view answer, bool json,
                                             std::string_view source) {
    const std::size_t bytes = examine_memory(answer.size(), source.size());
    const std::unique_ptr<std::byte[]> memory(new std::byte[bytes]);
    std::vector<Finding> found(checks.size());
    TRY(examine(checks, answer, json, source, {memory.get(), bytes}, found));
    return found;
}

}  // namespace slmd::agent
