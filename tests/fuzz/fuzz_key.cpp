// LINK: slmd_image slmd_base
// A key file as it is. What is taken is a point that can verify, and nothing but white space may differ: the same key
// with a letter behind it is refused.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "image/signature.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace slmd::image;
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto pem = parse_pem("key", text);
    const auto key = parse_public_key("key", text);
    if (!key) return 0;
    if (!pem || pem.value().size != 91 || key.value().point[0] != 4) std::abort();
    const std::uint8_t nothing[64] = {};
    const auto held = holds(key.value(), slmd::Sha256{}, nothing);
    if (!held || held.value()) std::abort();
    if (parse_public_key("key", text + "x")) std::abort();
    return 0;
}
