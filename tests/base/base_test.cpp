#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/cluster.h"
#include "base/file.h"
#include "base/team.h"

using namespace slmd;

namespace {

std::span<const std::byte> bytes_of(std::string_view s) { return std::as_bytes(std::span(s.data(), s.size())); }

TEST(Checksums, KnownAnswers) {
    EXPECT_EQ(crc32c(bytes_of("123456789")), 0xE3069283u);
    EXPECT_EQ(crc32c(bytes_of("56789"), crc32c(bytes_of("1234"))), 0xE3069283u);
    EXPECT_EQ(crc16_xmodem("123456789"), 0x31C3);
}

TEST(ByteReader, StopsAtItsEnd) {
    ByteReader r(bytes_of("abcd"));
    EXPECT_EQ(r.get<std::uint16_t>(), 0x6261);
    EXPECT_EQ(r.get<std::uint32_t>(), 0u);
    EXPECT_FALSE(r.ok());
    EXPECT_EQ(r.get<std::uint8_t>(), 0);
}

TEST(Arena, CountsWhatItHandsOut) {
    auto layout = [](Arena& a) {
        a.persistent<float>(3);
        return a.scratch<char>(100);
    };
    Arena counting;
    EXPECT_EQ(layout(counting), nullptr);
    std::vector<std::byte> block(counting.used());
    Arena real(block);
    EXPECT_NE(layout(real), nullptr);
    EXPECT_FALSE(real.overflow());
    EXPECT_EQ(real.used(), counting.used());
    EXPECT_EQ(real.persistent<char>(1), nullptr);
    EXPECT_TRUE(real.overflow());
}

TEST(Arena, OverlaidScratchTakesTheLargerPlace) {
    char *a = nullptr, *b = nullptr, *c = nullptr, *after = nullptr;
    const auto layout = [&](Arena& arena) {
        arena.overlay(
            [&] {
                a = arena.scratch<char>(64);
                b = arena.scratch<char>(640);
            },
            [&] { c = arena.scratch<char>(64); });
        after = arena.scratch<char>(64);
    };
    Arena counting;
    layout(counting);
    EXPECT_EQ(counting.scratch_bytes(), 768u);
    alignas(64) static std::byte block[768];
    Arena real(block);
    layout(real);
    EXPECT_FALSE(real.overflow());
    EXPECT_EQ(a, c);
    EXPECT_EQ(after + 64, b);
}

TEST(AtomicFile, KeepsTheOldFileWithoutCommit) {
    const std::string path = testing::TempDir() + "atomic";
    for (const char* text : {"one", "two"}) {
        auto f = AtomicFile::create(path.c_str());
        ASSERT_TRUE(f);
        ASSERT_TRUE(f->write(bytes_of(text)));
        if (text[0] == 'o') {
            ASSERT_TRUE(f->commit());
        }
    }
    auto m = MappedFile::open(path.c_str());
    ASSERT_TRUE(m);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(m->bytes().data()), m->bytes().size()), "one");
    EXPECT_FALSE(MappedFile::open((path + "-absent").c_str()));
}

// A folder as the kernel of an RK3588 shows it, but for the CPUs that this machine has.
TEST(Cluster, TheFastestCores) {
    const Cluster all = fastest_cluster("/nowhere");
    cpu_set_t usable;
    ASSERT_EQ(sched_getaffinity(0, sizeof usable, &usable), 0);
    EXPECT_TRUE(CPU_EQUAL(&all.cpus, &usable));
    EXPECT_EQ(all.cores, CPU_COUNT(&usable));
    std::vector<int> cpus;
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &usable)) cpus.push_back(i);
    if (cpus.size() < 2) GTEST_SKIP() << "one CPU is no two clusters";
    const std::filesystem::path folder = testing::TempDir() + "slmd-cpus-" + std::to_string(getpid());
    for (std::size_t i = 0; i < cpus.size(); i++) {
        const auto cpu = folder / ("cpu" + std::to_string(cpus[i]));
        std::filesystem::create_directories(cpu);
        std::ofstream(cpu / "cpu_capacity") << (i == 0 ? 414 : i == 1 ? 1024 : 1008) << "\n";
    }
    const Cluster fast = fastest_cluster(folder.c_str());
    EXPECT_EQ(fast.cores, static_cast<int>(cpus.size()) - 1);
    EXPECT_FALSE(CPU_ISSET(cpus[0], &fast.cpus));
    std::filesystem::remove_all(folder);
}

TEST(Team, EveryRankDoesItsPartBetweenBarriers) {
    struct Work {
        Team team;
        std::vector<int> a, b;
    } w;
    ASSERT_TRUE(w.team.start(3));
    w.a.assign(1000, 0);
    w.b.assign(1000, 0);
    for (int round = 1; round <= 200; round++) {
        w.team.run(
            3,
            [](void* context, int rank) {
                auto& self = *static_cast<Work*>(context);
                const auto p = self.team.part(1000, rank);
                for (int i = p.begin; i < p.end; i++) self.a[i]++;
                self.team.sync();
                for (int i = p.begin; i < p.end; i++) self.b[i] = self.a[999 - i];
            },
            &w);
        for (int i = 0; i < 1000; i++) ASSERT_EQ(w.b[i], round);
    }
    EXPECT_FALSE(Team().start(99));
}

// Every unit exactly once, whoever is late, for any number of members of a larger team.
TEST(Team, DealsEveryUnitOnceAndHelpsWhoIsLate) {
    struct Work {
        Team team;
        std::atomic<int> done[3][1000];
        std::atomic<int> of_late{0}, arrived{0};
    } w;
    ASSERT_TRUE(w.team.start(4));
    for (int round = 0; round < 200; round++) {
        const int members = 1 + round % 4;
        for (auto& d : w.done)
            for (auto& u : d) u = 0;
        w.team.run(
            members,
            [](void* context, int rank) {
                auto& self = *static_cast<Work*>(context);
                unsigned turn = 0;
                for (auto& done : self.done) {
                    self.team.deal(1000, 7, rank, turn, [&](int begin, int end) {
                        for (int i = begin; i < end; i++) done[i]++;
                    });
                    self.team.sync();
                }
            },
            &w);
        for (auto& d : w.done)
            for (auto& u : d) ASSERT_EQ(u, 1);
    }
    // The last member does not begin before the others have done all of its part.
    w.team.run(
        3,
        [](void* context, int rank) {
            auto& self = *static_cast<Work*>(context);
            unsigned turn = 0;
            if (rank == 2)
                while (self.arrived < 2) usleep(100);
            self.team.deal(300, 10, rank, turn, [&](int begin, int end) {
                if (rank == 2) self.of_late += end - begin;
            });
            self.arrived++;
        },
        &w);
    EXPECT_EQ(w.of_late, 0);
}

}  // namespace
