// The linux back end on fixture trees, and the board files.
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "hal/linux/pmic.h"
#include "tree.h"

namespace slmd::hal {
namespace {

using slmd::testing::Tree;
using namespace std::string_literals;
const std::string boards = std::string(SLMD_SOURCE) + "/boards";

TEST(Root, ReadsNumbersAndSaysWhatIsWrong) {
    Tree t;
    t.put("sys/a", "0x10\n");
    t.put("sys/b", "fast\n");
    const Root root = t.root();
    EXPECT_EQ(root.number("sys/a").value(), 16);
    EXPECT_EQ(root.number("sys/b").error().code, Code::device_io);
    EXPECT_STREQ(root.number("sys/b").error().text, "/sys/b: not a number: \"fast\"");
    EXPECT_EQ(root.number("sys/c").error().code, Code::not_found);
    std::set<std::string> names;
    root.list("sys", [&](const char* n) { return names.insert(n), true; });
    EXPECT_EQ(names, (std::set<std::string>{"a", "b"}));
    char four[5];
    t.put("sys/long", "123456789");
    EXPECT_EQ(root.read("sys/long", four).value(), "1234");
    EXPECT_FALSE(root.write("sys/none", "1"));
}

TEST(Thermal, TakesTheBoardsZonesOrTheHottest) {
    Tree t;
    t.put("sys/class/thermal/thermal_zone0/type", "gpu-thermal\n");
    t.put("sys/class/thermal/thermal_zone0/temp", "90000\n");
    t.put("sys/class/thermal/thermal_zone1/type", "cpu-thermal\n");
    t.put("sys/class/thermal/thermal_zone1/temp", "61234\n");
    t.put("sys/class/thermal/thermal_zone1/trip_point_0_type", "critical\n");
    t.put("sys/class/thermal/thermal_zone1/trip_point_0_temp", "110000\n");
    t.put("sys/class/thermal/thermal_zone1/trip_point_1_type", "passive\n");
    t.put("sys/class/thermal/thermal_zone1/trip_point_1_temp", "85000\n");
    BoardFile board;
    EXPECT_EQ(t.hardware(board)->thermal().temperature().value(), 90000);
    strcpy(board.zones[board.zone_count++], "cpu-thermal");
    auto h = t.hardware(board);
    EXPECT_EQ(h->thermal().temperature().value(), 61234);
    EXPECT_EQ(h->thermal().throttle_point().value(), 85000);
    board.throttle_mc = 80000;
    EXPECT_EQ(t.hardware(board)->thermal().throttle_point().value(), 80000);
    t.put("sys/class/thermal/thermal_zone1/temp", "-274000\n");  // a sensor that starts
    EXPECT_EQ(h->thermal().temperature().error().code, Code::device_io);
    t.drop("sys/class/thermal/thermal_zone1");
    EXPECT_FALSE(h->thermal().temperature());
    EXPECT_EQ(Tree().hardware()->thermal().temperature().error().code, Code::not_found);
}

TEST(Cpu, FindsClustersAndTheFrequencyCap) {
    Tree t;
    for (int i = 0; i < 8; i++) {
        const std::string cpu = "sys/devices/system/cpu/cpu" + std::to_string(i);
        t.put(cpu + "/cpu_capacity", i < 4 ? "530\n" : "1024\n");
        t.put(cpu + "/regs/identification/midr_el1", i < 4 ? "0x00000000412fd050\n" : "0x00000000414fd0b0\n");
    }
    t.put("sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "1800000\n");
    t.put("sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1800000\n");
    EXPECT_EQ(t.hardware()->cpu().frequency()->maximum, 1800000);
    t.put("sys/devices/system/cpu/cpufreq/policy4/cpuinfo_max_freq", "2400000\n");
    t.put("sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq", "1600000\n");
    auto h = t.hardware();
    EXPECT_EQ(h->cpu().frequency()->maximum, 2400000);
    EXPECT_EQ(h->cpu().frequency()->cap, 1600000);
    t.drop("sys/devices/system/cpu/cpufreq/policy4");  // offline
    EXPECT_FALSE(h->cpu().frequency());
    EXPECT_EQ(h->cpu().frequency()->maximum, 1800000);
    CoreCluster c[3];
    ASSERT_EQ(h->cpu().clusters(c).value(), 2);
    EXPECT_EQ(c[0].cores, 4);
    EXPECT_EQ(c[1].first, 4);
    EXPECT_EQ(c[1].capacity, 1024);
    EXPECT_STREQ(core_name(c[0].midr), "Cortex-A55");
    EXPECT_STREQ(core_name(c[1].midr), "Cortex-A76");
    EXPECT_EQ(Tree().hardware()->cpu().frequency().error().code, Code::not_found);
}

TEST(Power, UndervoltageFromTheDriverOrTheFirmware) {
    Tree t;
    EXPECT_EQ(t.hardware()->power().undervoltage().error().code, Code::not_found);
    EXPECT_EQ(t.hardware()->power().microjoules().error().code, Code::not_found);
    t.put("sys/devices/platform/soc/soc:firmware/get_throttled", "50000\n");  // was low, is not
    EXPECT_FALSE(t.hardware()->power().undervoltage().value());
    t.put("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n");
    EXPECT_TRUE(t.hardware()->power().undervoltage().value());
    t.put("sys/class/hwmon/hwmon1/name", "rpi_volt\n");
    t.put("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n");
    EXPECT_FALSE(t.hardware()->power().undervoltage().value());
}

TEST(Power, JoulesFromACounterAndFromWatts) {
    Tree t;
    t.put("sys/class/powercap/intel-rapl:0/energy_uj", "1000\n");
    auto h = t.hardware();
    EXPECT_EQ(h->power().microjoules().value(), 0u);
    t.put("sys/class/powercap/intel-rapl:0/energy_uj", "251000\n");
    EXPECT_EQ(h->power().microjoules().value(), 250000u);
    t.put("sys/class/powercap/intel-rapl:0/energy_uj", "1000\n");  // it began again
    EXPECT_EQ(h->power().microjoules().value(), 250000u);
    t.put("sys/class/powercap/intel-rapl:0/energy_uj", "3000\n");
    EXPECT_EQ(h->power().microjoules().value(), 252000u);
    for (const bool iio : {true, false}) {  // an INA219 by either driver
        Tree ina;
        ina.put("sys/bus/iio/devices/iio:device0/in_power2_scale", "20.0\n");
        ina.put("sys/bus/iio/devices/iio:device0/in_power2_raw", "250\n");
        if (!iio) {
            ina.put("sys/class/hwmon/hwmon0/name", "ina219\n");
            ina.put("sys/class/hwmon/hwmon0/power1_input", "5000000\n");
        }
        h = ina.hardware();
        const std::uint64_t before = h->now_ms();
        const std::uint64_t a = h->power().microjoules().value();
        usleep(20'000);
        const std::uint64_t b = h->power().microjoules().value();
        const std::uint64_t most = (h->now_ms() + 1 - before) * 5000;  // 5 W
        EXPECT_GE(b - a, 20u * 5000);
        EXPECT_LE(b - a, most);
    }
}

TEST(Power, SumsWhatThePmicSays) {
    EXPECT_NEAR(pmic_microwatts("    3V7_WL_SW_A current(0)=0.10000000A\n    3V3_SYS_A current(1)=0.50000000A\n"
                                "    3V7_WL_SW_V volt(8)=3.70000000V\n    3V3_SYS_V volt(9)=3.30000000V\n"
                                "    EXT5V_V volt(24)=5.1V\n"),
                1e6 * (0.37 + 1.65), 1);
    EXPECT_EQ(pmic_microwatts(""), 0);
    EXPECT_EQ(pmic_microwatts("error=1 error_msg=\"Command not registered\""), 0);
    EXPECT_EQ(pmic_microwatts("X_A current(0)=1A\nX_A "), 0);
}

TEST(Led, TakesItFromItsTriggerAndGivesItBack) {
    Tree t;
    t.put("sys/class/leds/green:status/max_brightness", "255\n");
    t.put("sys/class/leds/green:status/brightness", "3\n");
    t.put("sys/class/leds/green:status/trigger", "none timer [heartbeat] mmc0\n");
    {
        auto h = t.hardware();
        EXPECT_EQ(h->led().take("ACT").error().code, Code::not_found);
        EXPECT_EQ(h->led().take("../thermal").error().code, Code::not_found);
        ASSERT_TRUE(h->led().take("green:status"));
        EXPECT_EQ(t.get("sys/class/leds/green:status/trigger").substr(0, 4), "none");
        ASSERT_TRUE(h->led().set(true));
        EXPECT_EQ(t.get("sys/class/leds/green:status/brightness").substr(0, 3), "255");
    }
    EXPECT_EQ(t.get("sys/class/leds/green:status/trigger").substr(0, 9), "heartbeat");
}

TEST(Board, MemoryLimitOfTheTightestGroup) {
    Tree t;
    t.put("proc/meminfo", "MemTotal:        1000000 kB\nMemFree:  5 kB\nMemAvailable:     600000 kB\n");
    t.put("proc/self/cgroup", "0::/system.slice/slmd.service\n");
    t.put("sys/fs/cgroup/system.slice/slmd.service/memory.max", "max\n");
    t.put("sys/fs/cgroup/system.slice/memory.max", "300000000\n");
    t.put("sys/fs/cgroup/system.slice/slmd.service/memory.pressure",
          "some avg10=12.50 avg60=0.00 avg300=0.00 total=0\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=0\n");
    auto h = t.hardware();
    const auto m = h->board().memory();
    ASSERT_TRUE(m) << m.error().text;
    EXPECT_EQ(m.value().total, 1024000000u);
    EXPECT_EQ(m.value().available, 614400000u);
    EXPECT_EQ(m.value().limit, 300000000u);
    EXPECT_EQ(m.value().pressure, 12.5);
    t.put("sys/fs/cgroup/system.slice/slmd.service/memory.max", "200000000\n");
    EXPECT_EQ(h->board().memory()->limit, 200000000u);
    // Raspberry Pi OS without the memory controller, and a kernel without PSI
    t.drop("sys/fs");
    EXPECT_EQ(h->board().memory()->limit, 0u);
    EXPECT_EQ(h->board().memory()->pressure, -1);
    t.drop("proc/meminfo");
    EXPECT_FALSE(h->board().memory());
}

TEST(Storage, SaysWhatAFolderLiesOn) {
    auto h = std::move(open_linux(std::move(Root::open("/")).value(), {})).value();
    const auto v = h->storage().volume("/tmp");
    ASSERT_TRUE(v) << v.error().text;
    EXPECT_GT(v.value().total, 0u);
    EXPECT_NE(v.value().kind[0], 0);
    EXPECT_EQ(h->storage().volume("/no/such/folder").error().code, Code::not_found);
}

TEST(Watchdog, AFileIsNone) {
    Tree t;
    EXPECT_EQ(t.hardware()->watchdog().start(10).error().code, Code::not_found);
    t.put("dev/watchdog", "");
    auto h = t.hardware();
    EXPECT_EQ(h->watchdog().start(10).error().code, Code::device_io);
    EXPECT_FALSE(h->watchdog().feed());
}

TEST(Gpio, WithoutChipsEveryLineIsNotFound) {
    auto h = Tree().hardware();
    LineConfig line;
    line.name = "GPIO17";
    const auto r = h->gpio().request(line);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, Code::not_found);
    EXPECT_NE(std::string(r.error().text).find("GPIO17"), std::string::npos);
    EXPECT_FALSE(h->gpio().get(3));
    Edge edges[4];
    EXPECT_EQ(h->gpio().edges(edges).value(), 0);
}

TEST(Serial, OpensAPtyBelowTheRoot) {
    const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    grantpt(master), unlockpt(master);
    char name[64];
    ptsname_r(master, name, sizeof name);
    Tree t;
    std::filesystem::create_directories(t.path("dev"));
    std::filesystem::create_symlink(name, t.path("dev/serial0"));
    auto h = t.hardware();
    const auto fd = h->serial().open({"/dev/serial0", 115200, false, true});
    ASSERT_TRUE(fd) << fd.error().text;
    termios now;
    ASSERT_EQ(tcgetattr(fd.value(), &now), 0);
    EXPECT_TRUE(now.c_iflag & IXON);
    EXPECT_TRUE(now.c_iflag & IXOFF);
    EXPECT_EQ(h->serial().errors(fd.value()).frame, 0u);
    h->serial().close(fd.value());
    EXPECT_EQ(h->serial().open({"/dev/serial0", 12345}).error().code, Code::incorrect_parameters);
    EXPECT_EQ(h->serial().open({"/dev/ttyS9"}).error().code, Code::device_io);
    close(master);
}

// ---- boards

TEST(BoardFiles, AllAreGoodAndNoTwoClaimTheSameString) {
    std::set<std::string> seen, names;
    for (const auto& e : std::filesystem::directory_iterator(boards)) {
        if (e.path().extension() != ".toml") continue;
        const auto b = read_board_file(e.path().c_str());
        ASSERT_TRUE(b) << b.error().text;
        names.insert(b.value().name);
        for (int i = 0; i < b.value().compatible_count; i++)
            EXPECT_TRUE(seen.insert(b.value().compatible[i]).second) << b.value().compatible[i];
    }
    EXPECT_EQ(names, (std::set<std::string>{"cm4", "generic", "orange-pi-5", "pc", "pi-3", "pi-4", "pi-5", "pi-zero-2w",
                                            "rock-3", "rock-5b"}));
}

TEST(BoardFiles, MatchedByTheDeviceTreeMostSpecificFirst) {
    const struct {
        std::string compatible;
        const char* board;
    } cases[] = {{"raspberrypi,model-zero-2-w\0brcm,bcm2837\0"s, "pi-zero-2w"},
                 {"raspberrypi,3-model-b-plus\0brcm,bcm2837\0"s, "pi-3"},
                 {"raspberrypi,4-model-b\0brcm,bcm2711\0"s, "pi-4"},
                 {"raspberrypi,4-compute-module-io\0raspberrypi,4-compute-module\0brcm,bcm2711\0"s, "cm4"},
                 {"raspberrypi,5-model-b\0brcm,bcm2712\0"s, "pi-5"},
                 {"xunlong,orangepi-5\0rockchip,rk3588s\0"s, "orange-pi-5"},
                 {"radxa,rock-5b\0rockchip,rk3588\0"s, "rock-5b"},
                 {"radxa,rock3a\0rockchip,rk3568\0"s, "rock-3"},
                 {"acme,thing\0acme,soc\0"s, "generic"}};
    for (const auto& c : cases) {
        Tree t;
        t.put("sys/firmware/devicetree/base/compatible", c.compatible);
        t.put("sys/firmware/devicetree/base/model", "A Board\0"s);
        t.put("sys/firmware/devicetree/base/serial-number", "10000000abcdef01\0"s);
        const auto b = find_board(t.root(), boards.c_str());
        ASSERT_TRUE(b) << b.error().text;
        EXPECT_STREQ(b.value().name, c.board);
        const Identity who = t.hardware(b.value())->board().identity();
        EXPECT_STREQ(who.name, c.board);
        EXPECT_STREQ(who.model, "A Board");
        EXPECT_STREQ(who.serial, "10000000abcdef01");
    }
    const auto here = find_board(Tree().root(), boards.c_str());  // no device tree
    ASSERT_TRUE(here);
#ifdef __x86_64__
    EXPECT_STREQ(here.value().name, "pc");
#else
    EXPECT_STREQ(here.value().name, "generic");
#endif
    EXPECT_EQ(find_board(Tree().root(), boards.c_str(), "pi-9").error().code, Code::not_found);
    EXPECT_STREQ(find_board(Tree().root(), boards.c_str(), "pi-5")->name, "pi-5");
    EXPECT_STREQ(line_of(find_board(Tree().root(), boards.c_str(), "pi-5").value(), "PIN11"), "pinctrl-rp1:17");
    EXPECT_STREQ(line_of({}, "GPIO4"), "GPIO4");
}

TEST(BoardFiles, EveryErrorNamesItsLine) {
    const char* const good = "title = \"X\"\ncompatible = \"a,b\"\n";
    const struct {
        std::string text, message;
    } cases[] = {
        {"title = \"X\"\n", "compatible is missing"},
        {"compatible = \"a,b\"\n", "title is missing"},
        {good + "colour = 1\n"s, ":3: unknown key \"colour\""},
        {good + "[gpio]\nchips = \"x\"\n"s, ":4: unknown key \"chips\""},
        {good + "[gpio.pins]\nPIN1 = 4\n"s, ":4: PIN1 is a text"},
        {good + "[gpio.pins]\nA_VERY_LONG_PIN_NAME = \"x\"\n"s, ":4: a pin's name"},
        {good + "[thermal]\nthrottle = 400\n"s, ":4: throttle is a number from 40 to 120"},
        {good + "[thermal]\nthrottle = \"hot\"\n"s, ":4: throttle is a number"},
        {good + "thermal = 3\n"s, ":3: thermal is a table"},
        {good + "[[cluster]]\ncore = \"Cortex-A53\"\n"s, ":3: a [[cluster]] has a core and cpus"},
        {good + "[memory]\nreserve_mib = 1.5\n"s, ":4: reserve_mib is a number"},
        {good + "[watchdog]\nlongest_s = true\n"s, ":4: longest_s is a number"},
        {good + "[storage]\nkind = \"tape\"\n"s, ":4: kind is one of"},
        {good + "serial = []\n"s, ":3: serial is one text, or a list"},
        {good + "led = [\"a\", 3]\n"s, ":3: led is a text"},
        {good + "led = \"\\u0007\"\n"s, ":3: led has a control character"},
        {good + "title = \"Y\"\n"s, ":3:"},
        // where toml++ 3.3 asserts, or worse
        {good + "[\xc2\xa7]\n"s, ":3:"},
        {good + "[ ]\n"s, ":3:"},
        {good + "led = 2(2'\xc9\xa2\n"s, ":3:"},
        {good + "led = \xc3\xa4\n"s, ":3:"},
        {good + "led = \"x\" \xc2\xa0\n"s, ":3:"},
    };
    for (const auto& c : cases) {
        Tree t;
        t.put("x.toml", c.text);
        const auto b = read_board_file(t.path("x.toml").c_str());
        ASSERT_FALSE(b) << c.text;
        EXPECT_EQ(b.error().code, Code::incorrect_parameters);
        EXPECT_NE(std::string(b.error().text).find(c.message), std::string::npos) << b.error().text;
    }
    EXPECT_FALSE(read_board_file("/no/such.toml"));
    EXPECT_FALSE(read_board_file("/etc/hostname"));
}

TEST(BoardFiles, LettersOfAllKindsInTextsAndComments) {
    Tree t;
    t.put("x.toml",
          "# \xc2\xa7 comment\ntitle = \"B\xc3\xa4r \\\"\xc2\xa7\"  # \xc2\xa7\ncompatible = ['a\xc3\xa9', "
          "\"\"\"\xc3\xa9\"\"\"]\n"
          "led = '''x\xc3\xa9'''\n");
    const auto b = read_board_file(t.path("x.toml").c_str());
    ASSERT_TRUE(b) << b.error().text;
    EXPECT_STREQ(b.value().title, "B\xc3\xa4r \"\xc2\xa7");
    EXPECT_EQ(b.value().compatible_count, 2);
}

// The schema that editors use knows the keys that the reader knows.
TEST(BoardFiles, TheSchemaHasTheReadersKeys) {
    using nlohmann::json;
    std::ifstream f(boards + "/board.schema.json");
    const json schema = json::parse(f);
    const auto known = [](const std::string& table) {
        Tree t;
        t.put("x.toml", table + "\nzzz = 1\n");
        const std::string said = read_board_file(t.path("x.toml").c_str()).error().text;
        const std::string begin = "known: ";
        std::set<std::string> keys;
        std::istringstream list(said.substr(said.find(begin) + begin.size()));
        for (std::string k; std::getline(list >> std::ws, k, ',');) {
            while (k.front() == '[') k = k.substr(1, k.size() - 2);
            keys.insert(k.substr(k.rfind('.') + 1));  // [gpio.pins] stands in [gpio]
        }
        return keys;
    };
    const auto keys = [](const json& properties) {
        std::set<std::string> all;
        for (const auto& [key, value] : properties.items()) all.insert(key);
        return all;
    };
    const json& top = schema["properties"];
    EXPECT_EQ(known(""), keys(top));
    for (const char* const table : {"gpio", "thermal", "memory", "watchdog", "storage"})
        EXPECT_EQ(known("[" + std::string(table) + "]"), keys(top[table]["properties"])) << table;
    EXPECT_EQ(known("[[cluster]]"), keys(top["cluster"]["items"]["properties"]));
}

// A bad file must not hide the board that another describes.
TEST(BoardFiles, ABadOneDoesNotHideTheOthers) {
    Tree t;
    t.put("boards/bad.toml", "nonsense");
    t.put("boards/generic.toml", "title = \"G\"\ncompatible = \"generic\"\n");
    t.put("boards/notes.txt", "nothing");
    EXPECT_STREQ(find_board(t.root(), t.path("boards").c_str())->name, "generic");
    t.drop("boards/generic.toml");
    EXPECT_EQ(find_board(t.root(), t.path("boards").c_str()).error().code, Code::incorrect_parameters);
    EXPECT_EQ(find_board(t.root(), t.path("none").c_str()).error().code, Code::storage_failure);
}

}  // namespace
}  // namespace slmd::hal
