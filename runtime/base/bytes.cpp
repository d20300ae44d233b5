#include "base/bytes.h"

#include <array>

#if defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#elif defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace slmd {
namespace {

constexpr auto table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; i++) {
        std::uint32_t c = i;
        for (int k = 0; k < 8; k++) c = (c & 1) ? (c >> 1) ^ 0x82f63b78u : c >> 1;
        t[i] = c;
    }
    return t;
}();

std::uint32_t crc32c_table(const std::byte* p, std::size_t n, std::uint32_t c) {
    for (; n; n--, p++) c = table[(c ^ std::to_integer<std::uint32_t>(*p)) & 255] ^ (c >> 8);
    return c;
}

#if defined(__x86_64__)
[[gnu::target("sse4.2")]] std::uint32_t crc32c_hardware(const std::byte* p, std::size_t n, std::uint32_t c) {
    std::uint64_t wide = c;
    for (; n >= 8; n -= 8, p += 8) wide = _mm_crc32_u64(wide, load<std::uint64_t>(p));
    c = static_cast<std::uint32_t>(wide);
    for (; n; n--, p++) c = _mm_crc32_u8(c, std::to_integer<std::uint8_t>(*p));
    return c;
}
bool has_hardware() { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__)
[[gnu::target("+crc")]] std::uint32_t crc32c_hardware(const std::byte* p, std::size_t n, std::uint32_t c) {
    for (; n >= 8; n -= 8, p += 8) c = __crc32cd(c, load<std::uint64_t>(p));
    for (; n; n--, p++) c = __crc32cb(c, std::to_integer<std::uint8_t>(*p));
    return c;
}
bool has_hardware() { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
#else
std::uint32_t crc32c_hardware(const std::byte* p, std::size_t n, std::uint32_t c) { return crc32c_table(p, n, c); }
bool has_hardware() { return false; }
#endif

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed) {
    const bool hardware = has_hardware();
    const std::uint32_t c = ~seed;
    return ~(hardware ? crc32c_hardware(bytes.data(), bytes.size(), c) : crc32c_table(bytes.data(), bytes.size(), c));
}

std::uint16_t crc16_xmodem(std::string_view bytes, std::uint16_t seed) {
    std::uint32_t c = seed;
    for (unsigned char b : bytes) {
        c ^= static_cast<std::uint32_t>(b) << 8;
        for (int k = 0; k < 8; k++) c = (c & 0x8000) ? (c << 1) ^ 0x1021 : c << 1;
    }
    return static_cast<std::uint16_t>(c);
}

}  // namespace slmd
