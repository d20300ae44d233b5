// JSON Schema's own test suite, and what is refused.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "compiled.h"

namespace slmd::grammar {
namespace {

using json = nlohmann::ordered_json;

// As this project writes JSON: compact, numbers that are whole without a point.
std::string compact(const json& v) {
    if (v.is_object()) {
        std::string s = "{";
        for (const auto& [key, value] : v.items())
            s += (s.size() > 1 ? "," : "") + json(key).dump() + ":" + compact(value);
        return s + "}";
    }
    if (v.is_array()) {
        std::string s = "[";
        for (const auto& value : v) s += (s.size() > 1 ? "," : "") + compact(value);
        return s + "]";
    }
    if (v.is_number_float()) {
        const double d = v;
        if (d == std::floor(d) && std::abs(d) < 1e18) return json(static_cast<long long>(d)).dump();
        if (d == std::floor(d) && std::abs(d) < 1e32) {
            char text[64];
            std::snprintf(text, sizeof text, "%.0f", d);
            return text;
        }
    }
    return v.dump();
}

TEST(Schema, agrees_with_the_test_suite_of_draft_2020_12) {
    const std::filesystem::path folder = SLMD_SHARED "/data/schema/draft2020-12";
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "JSON Schema's test suite is not at " << folder;
    Compiled c;
    TestMatcher matcher;
    int groups = 0, supported = 0, cases = 0;
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
        for (const json& group : json::parse(std::ifstream(file))) {
            groups++;
            const std::string name = file.stem().string() + ": " + std::string(group["description"]);
            // In the suite formats only describe, and properties come in any order.
            const auto compiled = c.schema(group["schema"].dump(), {.ordered = false, .formats = false});
            if (!compiled && compiled.error().code != Code::incorrect_parameters) {
                EXPECT_TRUE(compiled.error().code == Code::not_supported || compiled.error().code == Code::not_found)
                    << name << ": " << compiled.error().what();
                std::cout << "refused: " << name << ": " << compiled.error().what() << "\n";
                continue;
            }
            supported++;
            for (const json& test : group["tests"]) {
                cases++;
                const std::string text = compact(test["data"]);
                // A schema that no value obeys is an error of its own.
                const bool taken = compiled && accepts(matcher, c.grammar, text);
                EXPECT_EQ(taken, bool(test["valid"])) << name << ": " << std::string(test["description"]) << "\n"
                                                      << group["schema"].dump() << "\n"
                                                      << text << (compiled ? "" : compiled.error().what());
            }
        }
    }
    std::cout << supported << " of " << groups << " groups supported, " << cases << " cases\n";
    EXPECT_GE(supported * 100, groups * 85);
}

}  // namespace
}  // namespace slmd::grammar
