// The shipped adapter on the model that it was trained for: what it understands, and what is none of its business, the
// same on every machine.
#include "harness.h"
#include "tests/pack/model.h"

using namespace slmd::testing;

namespace {

// FNV-1a
void add(std::uint64_t& hash, const std::string& text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
}

TEST(Intents, sentences_that_are_in_no_data_set) {
    const std::string source = slmd::model_path(), adapter = std::string(SLMD_SOURCE) + "/models/adapters/clinc150",
                      image = folder() + "/smollm2.slm";
    if (!std::filesystem::exists(source))
        GTEST_SKIP() << "no " << source << ": run toolchain/fetch-model, or set SLMD_CACHE";
    const Ran packed = shell(std::string(SLMD_BUILD) + "/slmpack import " + source + " -o " + image);
    ASSERT_EQ(packed.code, 0) << packed.err;
    Daemon d({.arguments = {"--adapter", "clinc150=" + adapter + "/clinc150.slm", "--agents", adapter},
              .tty = false,
              .image = image});
    Wire w = d.connect();
    int right = 0, of = 0, outside = 0;
    std::uint64_t hash = 14695981039346656037u;
    std::ifstream f(adapter + "/hand.jsonl");
    for (std::string line; std::getline(f, line); of++) {
        const json item = json::parse(line), reply = w.call("run", {{"agent", "clinc150"}, {"input", item["input"]}});
        ASSERT_TRUE(reply.contains("result")) << reply.dump();
        const json& r = reply["result"];
        right += r["label"] == item["output"];
        outside += item["output"] == "none" && r["label"] == "none";
        EXPECT_EQ(r["calibrated"], true);
        add(hash, r["label"].get<std::string>() + r["confidence"].dump());
    }
    EXPECT_EQ(of, 70);
    EXPECT_EQ(right, 55);
    EXPECT_EQ(outside, 7);
    EXPECT_EQ(hash, 2124065875651785335u);
}

}  // namespace
