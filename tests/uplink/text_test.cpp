// URLs, pins and addresses.
#include "uplink/text.h"

#include <gtest/gtest.h>

#include <string>

namespace slmd::uplink {
namespace {

TEST(Url, of_an_api) {
    const auto whole = split_url("https://api.example.com/v1/");
    ASSERT_TRUE(whole);
    EXPECT_TRUE(whole.value().tls);
    EXPECT_EQ(whole.value().host, "api.example.com");
    EXPECT_EQ(whole.value().port, 443);
    EXPECT_EQ(whole.value().path, "/v1");
    const auto v6 = split_url("http://[fd00::1]:8080");
    ASSERT_TRUE(v6);
    EXPECT_EQ(v6.value().host, "fd00::1");
    EXPECT_EQ(v6.value().port, 8080);
    EXPECT_EQ(v6.value().path, "");
    for (const char* bad :
         {"", "ftp://x", "https://", "https:///v1", "https://user:word@host/", "https://host:0", "https://host:65536",
          "https://host:", "https://host:1x", "https://host/a b", "https://host/?q=1", "https://host/#f",
          "https://h\r\nost/", "https://[::1", "https://host/\r\nX: y", "https://bücher.example/"})
        EXPECT_FALSE(split_url(bad)) << bad;
}

TEST(Pin, base64_of_32_bytes) {
    std::uint8_t bytes[32], back[32];
    for (int i = 0; i < 32; i++) bytes[i] = static_cast<std::uint8_t>(i * 37 + 1);
    char text[45];
    write_base64_32(bytes, text);
    EXPECT_EQ(std::strlen(text), 44u);
    ASSERT_TRUE(base64_32(text, back));
    EXPECT_EQ(std::memcmp(bytes, back, 32), 0);
    // RFC 7469, 2.1.5.
    EXPECT_TRUE(base64_32("d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=", back));
    EXPECT_EQ(back[0], 0x77);
    for (const char* bad :
         {"", "d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM",
          "d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmN=", "d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWm-="})
        EXPECT_FALSE(base64_32(bad, back)) << bad;
}

TEST(Address, told_from_a_name) {
    std::uint8_t bytes[16];
    EXPECT_EQ(address_bytes("192.168.1.20", bytes), 4);
    EXPECT_EQ(bytes[3], 20);
    EXPECT_EQ(address_bytes("fd00::1", bytes), 16);
    EXPECT_EQ(address_bytes("api.example.com", bytes), 0);
    EXPECT_EQ(address_bytes("192.168.1", bytes), 0);
}

}  // namespace
}  // namespace slmd::uplink
