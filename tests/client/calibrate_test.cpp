// slmctl calibrate without slmd: judged answers in, a table and two files out.
#include "client/calibrate.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "agent/calibration_file.h"

using namespace slmd;
using agent::Sample;

namespace {

std::string contents(const std::string& path) {
    std::stringstream s;
    s << std::ifstream(path).rdbuf();
    return s.str();
}

class Calibrate : public testing::Test {
  protected:
    Calibrate() : folder_(testing::TempDir() + "slmd-client-" + std::to_string(getpid())) {
        std::filesystem::create_directories(folder_);
        std::ofstream(path(".toml")) << "abc";
    }
    ~Calibrate() override { std::filesystem::remove_all(folder_); }
    std::string path(const char* ending) const { return folder_ + "/invoice" + ending; }
    // What it printed; "" and the error's text when it was refused.
    std::string calibrate(const std::vector<Sample>& examples, const char* model = "Tiny") {
        char* text = nullptr;
        std::size_t size = 0;
        FILE* const out = open_memstream(&text, &size);
        std::size_t at = 0;
        const auto done = client::calibrate(
            path(".toml").c_str(), sha256, model, adapter,
            [&](Sample& e) -> Result<bool> {
                if (at == fails_at) return Error::make(Code::deadline, "line %zu: too late", at + 1);
                if (at == examples.size()) return false;
                e = examples[at++];
                return true;
            },
            out);
        std::fclose(out);
        std::string printed(text, size);
        std::free(text);
        error = done ? "" : done.error().text;
        return printed;
    }
    std::size_t fails_at = 1u << 30;
    std::string error, adapter;
    std::string sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";  // of abc

  private:
    std::string folder_;
};

// Of 200 answers those with 0.9 are right 19 times of 20, those with 0.6 every second time.
std::vector<Sample> answers() {
    std::vector<Sample> made;
    for (int i = 0; i < 200; i++) {
        const float s = i % 2 == 0 ? 0.9f : 0.6f;
        made.push_back({{.min = s, .mean = s, .margin = s, .entropy = s}, i % 2 == 0 ? i % 40 != 0 : i % 4 == 1});
    }
    return made;
}

TEST_F(Calibrate, PrintsTheTableAndWritesBothFiles) {
    const std::string printed = calibrate(answers());
    ASSERT_EQ(error, "");
    EXPECT_EQ(printed.find("200 judged answers, 72.5 % of them right\n"), 0u) << printed;
    for (const char* part :
         {"ECE)     0.0720", "Brier score                 0.1550", "\n                  50 %       5.0 %     5.0 %",
          "                 100 %      27.5 %    27.5 %", "invoice.calibration\n", "invoice.svg\n", "threshold = "})
        EXPECT_NE(printed.find(part), std::string::npos) << part << "\n" << printed;
    agent::Calibration c;
    const auto read = agent::read_calibration(path(".calibration").c_str(), c);
    ASSERT_TRUE(read) << read.error().text;
    // SHA-256 of "abc" (FIPS 180-4).
    EXPECT_TRUE(
        agent::check_calibration(c, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "Tiny", ""));
    EXPECT_EQ(c.examples, 200);
    EXPECT_NEAR(agent::confidence(c, {.mean = 0.9f}), 96.0 / 102, 1e-6);
    EXPECT_NEAR(agent::confidence(c, {.mean = 0.6f}), 51.0 / 102, 1e-6);
    EXPECT_EQ(contents(path(".svg")).find("<svg "), 0u);
    // The threshold that is printed keeps the surer half.
    double threshold = 0, kept = 0, wrong = 0;
    ASSERT_EQ(std::sscanf(printed.c_str() + printed.find("threshold"),
                          "threshold = %lf keeps %lf %% of the answers, of which %lf", &threshold, &kept, &wrong),
              3);
    EXPECT_GT(threshold, 0.6);
    EXPECT_LT(threshold, 0.8);
    EXPECT_EQ(kept, 50);
    EXPECT_EQ(wrong, 5);
}

TEST_F(Calibrate, SaysWhenNoThresholdWillDo) {
    std::vector<Sample> bad = answers();
    for (std::size_t i = 0; i < bad.size(); i++) bad[i].right = i % 4 < 2;
    EXPECT_NE(calibrate(bad).find("no threshold leaves answers of which at most 5 % are wrong"), std::string::npos);
    EXPECT_EQ(error, "");
}

TEST_F(Calibrate, WhatIsThereStaysWhenItFails) {
    ASSERT_NE(calibrate(answers()), "");
    const std::string kept = contents(path(".calibration")), picture = contents(path(".svg"));
    fails_at = 100;
    EXPECT_EQ(calibrate(answers()), "");
    EXPECT_EQ(error, "line 101: too late");
    fails_at = 1u << 30;
    EXPECT_EQ(calibrate({}), "");
    EXPECT_NE(error.find("0 judged answers: a calibration needs 20"), std::string::npos);
    EXPECT_EQ(calibrate(answers(), std::string(64, 'x').c_str()), "");
    EXPECT_NE(error.find("64 bytes: 1 to 63"), std::string::npos) << error;
    std::filesystem::remove(path(".toml"));
    EXPECT_EQ(calibrate(answers()), "");
    EXPECT_NE(error.find("invoice.toml"), std::string::npos);
    EXPECT_EQ(contents(path(".calibration")), kept);
    EXPECT_EQ(contents(path(".svg")), picture);
}

}  // namespace
