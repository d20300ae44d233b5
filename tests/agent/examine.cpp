// Runs checks over answers, for a judge that knows which of them are right (evidence.py). Reads lines of {"checks":
// "FILE.toml", "answer": "...", "source": "..."}; writes for each a line of [["NAME", "pass" | "fail" | "absent",
// "WHY"], ...].
//
//   agent_examine FOLDER_OF_CHECKS
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "checked.h"

using namespace slmd::agent;

int main(int argc, char** argv) {
    if (argc != 2) return 64;
    std::map<std::string, Checks> files;
    for (std::string line; std::getline(std::cin, line);) {
        const auto in = nlohmann::json::parse(line);
        const std::string name = in["checks"];
        const auto [at, is_new] = files.try_emplace(name);
        if (is_new) {
            const auto read = at->second.read(std::string(argv[1]) + "/" + name);
            if (!read) return std::cerr << read.error().what() << "\n", 1;
        }
        const std::string answer = in["answer"], source = in["source"];
        const auto found = findings(at->second.checks, answer, true, source);
        if (!found) return std::cerr << found.error().what() << "\n", 1;
        auto out = nlohmann::json::array();
        for (const Finding& f : found.value())
            out.push_back({f.check->name,
                           f.verdict == Verdict::pass   ? "pass"
                           : f.verdict == Verdict::fail ? "fail"
                                                        : "absent",
                           f.why});
        std::cout << out.dump() << "\n";
    }
}
