// What slm-uplink's configuration means, and what is said of one that is wrong.
#include "uplink/config.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>

#include "uplink/secret.h"

namespace slmd::uplink {
namespace {

struct Files : testing::Test {
    std::string folder = testing::TempDir() + "slm-uplink-" + std::to_string(getpid()), path = folder + "/c.toml";
    void SetUp() override { mkdir(folder.c_str(), 0700); }
    void TearDown() override {
        for (const char* name : {"/c.toml", "/key"}) unlink((folder + name).c_str());
        rmdir(folder.c_str());
    }
    std::string read(const std::string& text, Config& config, const char* credentials = nullptr) {
        std::ofstream(path) << text;
        const auto r = read_config(path.c_str(), credentials, config);
        return r ? ""
                 : std::string(r.error().text).substr(r.error().code == Code::storage_failure ? 0 : folder.size() + 1);
    }
};

constexpr char base[] = "[[upstream]]\nname = \"a\"\nurl = \"https://api.example.com/v1\"\nmodel = \"m\"\n";

TEST_F(Files, everything) {
    Config c;
    EXPECT_EQ(read(R"(
[[upstream]]
name = "cloud"
url = "https://api.example.com/v1"
model = "large"
key = "cloud-key"
ca = "/etc/ssl/other.pem"
pin = ["d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM="]
client_cert = "/a.pem"
client_key = "board"
proxy = "http://proxy.lan:3128"
idempotency = true
structured = "json_object"
limit = "max_completion_tokens"
price = { input = 0.15, output = 10 }
timeouts = { dns = 1, connect = 2, handshake = 3, first_byte = 4, idle = 0.5, total = 6 }
tries = 5
backoff = 0.25
[[upstream]]
name = "lan"
url = "http://192.168.1.2:8080"
plaintext = true
model = "small"
key_file = "/k"
)",
                   c, "/run/credentials/x"),
              "");
    ASSERT_EQ(c.upstream_count, 2);
    const Upstream& u = c.upstreams[0];
    EXPECT_STREQ(u.host, "api.example.com");
    EXPECT_STREQ(u.path, "/v1");
    EXPECT_STREQ(u.key, "/run/credentials/x/cloud-key");
    EXPECT_STREQ(u.ca, "/etc/ssl/other.pem");
    EXPECT_STREQ(u.client_cert, "/a.pem");
    EXPECT_STREQ(u.client_key, "/run/credentials/x/board");
    EXPECT_EQ(u.pin_count, 1);
    EXPECT_EQ(u.pins[0][0], 0x77);
    EXPECT_STREQ(u.proxy_host, "proxy.lan");
    EXPECT_EQ(u.proxy_port, 3128);
    EXPECT_TRUE(u.idempotency);
    EXPECT_EQ(u.structured, Structured::json_object);
    EXPECT_TRUE(u.completion_tokens);
    EXPECT_EQ(u.price_in, 150'000);
    EXPECT_EQ(u.price_out, 10'000'000);
    EXPECT_EQ(u.timeouts.dns, 1000);
    EXPECT_EQ(u.timeouts.idle, 500);
    EXPECT_EQ(u.timeouts.total, 6000);
    EXPECT_EQ(u.tries, 5);
    EXPECT_EQ(u.backoff, 250);
    EXPECT_FALSE(c.upstreams[1].tls);
    EXPECT_EQ(c.upstreams[1].port, 8080);
}

TEST_F(Files, what_is_wrong_is_said_with_its_line) {
    const struct {
        std::string text, why;
    } cases[] = {
        {"", "no [[upstream]]"},
        {"[upstream]\n", "c.toml:1: upstream is a list"},
        {"[budge]\n", "c.toml:1: unknown key \"budge\"; known: "},
        {std::string(base) + "colour = 1\n", "c.toml:5: unknown key \"colour\"; known: name, url"},
        {"[[upstream]]\nname = \"a\"\nmodel = \"m\"\n", "c.toml:1: an [[upstream]] has a name, a url and a model"},
        {"[[upstream]]\nurl = \"http://h/v1\"\nname = \"a\"\nmodel = \"m\"\n", "c.toml:2: http:// sends"},
        {"[[upstream]]\nurl = \"h\"\n", "c.toml:2: neither https:// nor http://"},
        {std::string(base) + base, "c.toml:5: two upstreams of that name"},
        {std::string(base) + "plaintext = true\n", "c.toml:5: plaintext = true, but"},
        {std::string(base) + "ca = \"\"\n", "c.toml:5: ca = \"\" trusts nobody"},
        {std::string(base) + "pin = \"x\"\n", "c.toml:5: pin is a list"},
        {std::string(base) + "pin = [\"x\"]\n", "c.toml:5: pin is a list"},
        {std::string(base) + "key = \"k\"\n", "c.toml:5: key is a credential of systemd, and there are none here"},
        {std::string(base) + "key_file = 1\n", "c.toml:5: key_file is a text in quotes"},
        {std::string(base) + "client_cert = \"x\"\n", "c.toml:1: client_cert and client_key come together"},
        {std::string(base) + "proxy = \"https://p:1\"\n", "c.toml:5: proxy is"},
        {std::string(base) + "proxy = \"http://p\"\n", "c.toml:5: proxy is"},
        {std::string(base) + "structured = \"yes\"\n", "c.toml:5: structured is"},
        {std::string(base) + "limit = 5\n", "c.toml:5: limit is"},
        {std::string(base) + "price = { input = 1 }\n", "c.toml:5: price is"},
        {std::string(base) + "price = { input = 1, output = 0.0000001 }\n",
         "c.toml:5: output has more than six decimals"},
        {std::string(base) + "price = { input = -1, output = 1 }\n", "c.toml:5: input is a price"},
        {std::string(base) + "price = { input = nan, output = 1 }\n", "c.toml:5: input is a price"},
        {std::string(base) + "timeouts = { idle = 0 }\n", "c.toml:5: idle is a number of seconds, 0.05 to 3600"},
        {std::string(base) + "timeouts = { read = 1 }\n", "c.toml:5: unknown key \"read\"; known: dns"},
        {std::string(base) + "tries = 0\n", "c.toml:5: tries is a whole number, 1 to 10"},
        {std::string(base) + "model = \"a\\u0001b\"\n", "c.toml:5:"},
        {"[[upstream]]\nname = \"a b\"\nurl = \"https://h\"\nmodel = \"m\"\n", "c.toml:2: a name has letters"},
        {"[[upstream]]\nname = \"a\"\nurl = \"https://h\"\nmodel = \"a\\u0001b\"\n", "c.toml:4: model holds a control"},
        {"[[upstream]\n", "c.toml:1:"},
    };
    for (const auto& c : cases) {
        Config config;
        const std::string said = read(c.text, config);
        EXPECT_NE(said.find(c.why), std::string::npos) << c.text << "\n" << said;
    }
    Config config;
    EXPECT_NE(read(std::string(base) + "key = \"../k\"\n", config, "/run/c").find("name of a credential"),
              std::string::npos);
    std::string many;
    for (int i = 0; i < 9; i++)
        many += "[[upstream]]\nname = \"" + std::to_string(i) + "\"\nurl = \"https://h\"\nmodel = \"m\"\n";
    Config full;
    EXPECT_NE(read(many, full).find("at most 8 upstreams"), std::string::npos);
    EXPECT_FALSE(read_config("/nonexistent/x.toml", nullptr, config));
}

TEST_F(Files, keys) {
    const std::string key = folder + "/key";
    const auto put = [&](const std::string& text, mode_t mode) {
        std::ofstream(key) << text;
        chmod(key.c_str(), mode);
        Secret s;
        const auto r = s.read(key.c_str());
        return r ? "key " + std::string(s.text()) : std::string(r.error().text).substr(4 + key.size());
    };
    EXPECT_EQ(put("sk-1234\n", 0600), "key sk-1234");
    EXPECT_EQ(put("sk-1234\r\n", 0440), "key sk-1234");
    EXPECT_EQ(put("sk-1234", 0604), ": everybody may read it; chmod 0600 it");
    EXPECT_NE(put("", 0600).find("it is empty"), std::string::npos);
    EXPECT_NE(put("sk\r\nX-Evil: 1", 0600).find("one line of printable ASCII"), std::string::npos);
    EXPECT_NE(put("sk 1", 0600).find("one line of printable ASCII"), std::string::npos);
    EXPECT_NE(put(std::string(1024, 'k'), 0600).find("at most 1023"), std::string::npos);
    EXPECT_EQ(put(std::string(1023, 'k'), 0600).size(), 4 + 1023u);
    // What was read is gone when the next thing goes wrong.
    Secret s;
    put("sk-1234", 0600);
    ASSERT_TRUE(s.read(key.c_str()));
    EXPECT_FALSE(s.read("/nonexistent"));
    EXPECT_EQ(s.text(), "");
}

}  // namespace
}  // namespace slmd::uplink
