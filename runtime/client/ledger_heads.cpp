#include "client/ledger_heads.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <set>

#include "base/file.h"
#include "client/ledger_files.h"
#include "image/private_key.h"
#include "image/signature.h"

namespace slmd::client {
namespace {

std::string heads_beside(const std::string& segment) {
    const std::size_t slash = segment.rfind('/');
    return (slash == std::string::npos ? "" : segment.substr(0, slash + 1)) + "heads";
}

Result<Sha256> signed_digest(const SignedHead& h) {
    constexpr std::string_view what = "slmd ledger head\n";
    return sha256(
        {std::as_bytes(std::span(what)), std::as_bytes(std::span(&h.sequence, 1)), std::as_bytes(std::span(h.hash))});
}

bool read_hex(std::string_view text, std::span<std::uint8_t> out) {
    if (text.size() != 2 * out.size()) return false;
    for (std::size_t i = 0; i < text.size(); i++) {
        const char c = text[i];
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return false;
        out[i / 2] = static_cast<std::uint8_t>(i % 2 == 0 ? digit << 4 : out[i / 2] | digit);
    }
    return true;
}

bool read_line(const std::string& line, SignedHead& h) {
    char hash[65], key[17], rs[129], rest;
    return sscanf(line.c_str(), "%" SCNu64 " %64s %16s %128s %c", &h.sequence, hash, key, rs, &rest) == 4 &&
           read_hex(hash, h.hash) && read_hex(key, h.key) && read_hex(rs, h.rs);
}

std::string contents(const std::string& path) {
    const auto map = MappedFile::open(path.c_str());
    if (!map) return "";
    const auto bytes = map.value().bytes();
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace

Result<std::vector<SignedHead>> read_heads(const std::vector<std::string>& segments, const char* key) {
    const image::PublicKey by = TRY(image::read_public_key(key));
    std::set<std::string> files;
    for (const std::string& s : segments) files.insert(heads_beside(s));
    std::vector<SignedHead> out;
    for (const std::string& file : files) {
        const std::string all = contents(file);
        int number = 0;
        for (std::size_t at = 0; at < all.size();) {
            const std::size_t end = std::min(all.find('\n', at), all.size());
            const std::string line = all.substr(at, end - at);
            at = end + 1;
            number++;
            SignedHead h;
            if (!read_line(line, h))
                return Error::make(Code::incorrect_parameters, "%s:%d: not a signed head", file.c_str(), number);
            if (h.key != by.id.bytes) continue;
            if (!TRY(image::holds(by, TRY(signed_digest(h)), h.rs)))
                return Error::make(Code::model_integrity, "%s:%d: the signature does not hold", file.c_str(), number);
            out.push_back(h);
        }
    }
    return out;
}

Result<void> add_head(const std::string& segment, SignedHead head, const char* key) {
    const image::PrivateKey by = TRY(image::read_private_key(key));
    head.key = by.public_key.id.bytes;
    head.rs = TRY(image::sign_digest(TRY(signed_digest(head)), by));
    const std::string file = heads_beside(segment);
    const std::string all = contents(file) + std::to_string(head.sequence) + " " + hex_of(head.hash) + " " +
                            hex_of(head.key) + " " + hex_of(head.rs) + "\n";
    return write_text(file.c_str(), all);
}

}  // namespace slmd::client
