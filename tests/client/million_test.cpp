// A ledger of 1,000,000 records, in memory: written, verified, and a bit that changed in it found.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "client/ledger.h"
#include "client/ledger_report.h"
#include "route/ledger.h"
#include "route/ledger_records.h"

namespace slmd::client {
namespace {

namespace fs = std::filesystem;

TEST(Million, records_verify_and_a_bit_that_changed_is_named) {
    char name[] = "/dev/shm/slmd-ledger-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    const fs::path folder = name;
    const auto seconds = [](auto&& f) {
        const auto begin = std::chrono::steady_clock::now();
        f();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    };
    constexpr int records = 1'000'000;
    const double writing = seconds([&] {
        route::Folder disk;
        ASSERT_TRUE(disk.open_folder(folder.c_str()));
        route::Ledger ledger;
        route::Ledger::Time now{1'700'000'000'000, 5000};
        ASSERT_TRUE(ledger.open(disk, {.bytes = 512u << 20}, now));
        route::LedgerRecord r = route::testing::decision_record(1);
        for (int i = 0; i + 2 < records; i++) {
            r.id = static_cast<std::uint64_t>(i);
            now.wall_ms += 10, now.uptime_ms += 10;
            ASSERT_TRUE(ledger.append(r, now));
        }
        ASSERT_TRUE(ledger.stop(now));
    });
    LedgerCommand command;
    command.paths = {folder.c_str()};
    const auto verify = [&](bool good) {
        char* text = nullptr;
        std::size_t size = 0;
        FILE* const out = open_memstream(&text, &size);
        const auto r = verify_ledger(command, out);
        fclose(out);
        std::string said(text, size);
        free(text);
        EXPECT_TRUE(r && r.value() == good) << said;
        return said;
    };
    std::string said;
    const double verifying = seconds([&] { said = verify(true); });
    EXPECT_EQ(said.find("1000000 records in "), 0u) << said;
    const double reporting = seconds([&] {
        FILE* const out = fopen("/dev/null", "w");
        EXPECT_TRUE(report_ledger(command, out));
        fclose(out);
    });
    const fs::path some = folder / "00000004.ledger";
    {
        std::fstream f(some, std::ios::in | std::ios::out | std::ios::binary);
        f.seekg(256 * 5000 + 33);
        const char c = static_cast<char>(f.get() ^ 0x10);
        f.seekp(256 * 5000 + 33);
        f.put(c);
    }
    const double finding = seconds([&] { said = verify(false); });
    EXPECT_NE(said.find("00000004.ledger: record 5000 (sequence "), std::string::npos) << said;
    EXPECT_NE(said.find("confidence: bit 12 has changed"), std::string::npos) << said;
    printf(
        "1,000,000 records: written in %.1f s, verified in %.2f s, with a changed bit in %.2f s, reported in %.2f s\n",
        writing, verifying, finding, reporting);
    fs::remove_all(folder);
}

}  // namespace
}  // namespace slmd::client
