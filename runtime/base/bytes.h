// Little-endian reads from hostile bytes, and the two checksums that files and wires carry.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace slmd {

static_assert(std::endian::native == std::endian::little, "images are little endian and used in place");

template <class T>
T load(const void* p) {
    T v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

// Two lower-case digits for each byte, and the 0 behind them: 2 n + 1 characters.
inline void write_hex(std::span<const std::uint8_t> bytes, char* out) {
    for (const std::uint8_t b : bytes) *out++ = "0123456789abcdef"[b >> 4], *out++ = "0123456789abcdef"[b & 15];
    *out = 0;
}

inline std::size_t round_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

// A cursor that never reads past its end: after the first failure every read gives zero and ok() stays false.
class ByteReader {
  public:
    explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}
    template <class T>
    T get() {
        T v{};
        if (need(sizeof v)) std::memcpy(&v, bytes_.data() + at_ - sizeof v, sizeof v);
        return v;
    }
    std::span<const std::byte> take(std::size_t n) {
        return need(n) ? bytes_.subspan(at_ - n, n) : std::span<const std::byte>{};
    }
    std::string_view text(std::size_t n) {
        auto s = take(n);
        return {reinterpret_cast<const char*>(s.data()), s.size()};
    }
    bool ok() const { return ok_; }
    std::size_t at() const { return at_; }
    std::size_t left() const { return bytes_.size() - at_; }

  private:
    bool need(std::size_t n) {
        if (!ok_ || n > left()) return ok_ = false;
        at_ += n;
        return true;
    }
    std::span<const std::byte> bytes_;
    std::size_t at_ = 0;
    bool ok_ = true;
};

// CRC-32C (Castagnoli, reflected, as in iSCSI RFC 3720); hardware instructions where the CPU has them.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed = 0);

// CRC-16/XMODEM (polynomial 0x1021, initial value 0).
std::uint16_t crc16_xmodem(std::string_view bytes, std::uint16_t seed = 0);

}  // namespace slmd
