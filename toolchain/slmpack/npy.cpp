#include "toolchain/slmpack/npy.h"

#include <charconv>
#include <cstring>

#include "base/bytes.h"
#include "base/file.h"

namespace slmd::pack {
namespace {

struct Raw {
    MappedFile file;
    std::string type;
    std::vector<std::size_t> shape;
    std::size_t count;
    std::span<const std::byte> data;
};

// What stands behind 'key': in the header, a Python literal written by NumPy in a fixed style.
std::string_view value_of(std::string_view header, std::string_view key) {
    const std::string quoted = "'" + std::string(key) + "':";
    const auto at = header.find(quoted);
    if (at == header.npos) return {};
    auto rest = header.substr(at + quoted.size());
    while (rest.starts_with(' ')) rest.remove_prefix(1);
    const auto end = rest.starts_with('(') ? rest.find(')') : rest.find_first_of(",}");
    return end == rest.npos ? std::string_view{} : rest.substr(0, end + (rest.starts_with('(') ? 1 : 0));
}

Result<Raw> read(const std::string& path) {
    Raw raw{TRY(MappedFile::open(path.c_str())), {}, {}, 1, {}};
    const auto wrong = [&](const char* what) {
        return Error::make(Code::incorrect_parameters, "%.150s: %s", path.c_str(), what);
    };
    ByteReader in(raw.file.bytes());
    if (in.text(6) != "\x93NUMPY") return wrong("not a .npy file");
    const auto major = in.get<std::uint8_t>();
    in.get<std::uint8_t>();
    if (major < 1 || major > 3) return wrong("a .npy version that is not 1, 2 or 3");
    const std::size_t length = major == 1 ? in.get<std::uint16_t>() : in.get<std::uint32_t>();
    const auto header = in.text(length);
    if (!in.ok()) return wrong("truncated in its header");
    auto type = value_of(header, "descr");
    if (type.size() < 3 || type.front() != '\'') return wrong("its header names no type");
    raw.type = type.substr(1, type.size() - 2);
    if (value_of(header, "fortran_order") != "False")
        return wrong("in Fortran order: save it with numpy.ascontiguousarray");
    auto shape = value_of(header, "shape");
    if (shape.size() < 2) return wrong("its header names no shape");
    shape = shape.substr(1, shape.size() - 2);
    while (!shape.empty()) {
        std::size_t n = 0;
        const auto r = std::from_chars(shape.data(), shape.data() + shape.size(), n);
        if (r.ec != std::errc() || n > (std::size_t(1) << 40) || (n > 0 && raw.count > (std::size_t(1) << 40) / n))
            return wrong("its shape is not understood");
        raw.shape.push_back(n);
        raw.count *= n;
        shape.remove_prefix(std::size_t(r.ptr - shape.data()));
        while (!shape.empty() && (shape[0] == ',' || shape[0] == ' ')) shape.remove_prefix(1);
    }
    raw.data = raw.file.bytes().subspan(in.at());
    return raw;
}

Error size_error(const std::string& path, const Raw& raw) {
    return Error::make(Code::incorrect_parameters, "%.150s: %zu bytes do not hold %zu values of type %.8s",
                       path.c_str(), raw.data.size(), raw.count, raw.type.c_str());
}

}  // namespace

Result<NpyArray<std::int32_t>> read_npy_tokens(const std::string& path) {
    const Raw raw = TRY(read(path));
    const bool wide = raw.type == "<i8";
    if (!wide && raw.type != "<i4")
        return Error::make(Code::incorrect_parameters, "%.150s: type %.8s, tokens are int32 or int64", path.c_str(),
                           raw.type.c_str());
    if (raw.data.size() != raw.count * (wide ? 8 : 4)) return size_error(path, raw);
    NpyArray<std::int32_t> a{raw.shape, std::vector<std::int32_t>(raw.count)};
    for (std::size_t i = 0; i < raw.count; i++) {
        const std::int64_t v =
            wide ? load<std::int64_t>(raw.data.data() + 8 * i) : load<std::int32_t>(raw.data.data() + 4 * i);
        if (v < INT32_MIN || v > INT32_MAX)
            return Error::make(Code::incorrect_parameters, "%.150s: value %lld at %zu is no token", path.c_str(),
                               static_cast<long long>(v), i);
        a.values[i] = std::int32_t(v);
    }
    return a;
}

Result<NpyArray<float>> read_npy_floats(const std::string& path) {
    const Raw raw = TRY(read(path));
    if (raw.type != "<f4")
        return Error::make(Code::incorrect_parameters, "%.150s: type %.8s instead of float32", path.c_str(),
                           raw.type.c_str());
    if (raw.data.size() != raw.count * 4) return size_error(path, raw);
    NpyArray<float> a{raw.shape, std::vector<float>(raw.count)};
    if (raw.count > 0) std::memcpy(a.values.data(), raw.data.data(), raw.data.size());
    return a;
}

Result<void> write_npy(const std::string& path, std::span<const std::size_t> shape, std::span<const float> values) {
    std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
    std::size_t count = 1;
    for (const std::size_t n : shape) {
        header += std::to_string(n) + ", ";
        count *= n;
    }
    if (count != values.size())
        return Error::make(Code::incorrect_parameters, "%.150s: %zu values for a shape of %zu", path.c_str(),
                           values.size(), count);
    header += "), }";
    header.resize(round_up(10 + header.size() + 1, 64) - 10 - 1, ' ');
    header += '\n';
    std::string head = std::string("\x93NUMPY\x01\x00", 8);
    head += char(header.size() & 255);
    head += char(header.size() >> 8);
    head += header;
    AtomicFile file = TRY(AtomicFile::create(path.c_str()));
    if (auto r = file.write(std::as_bytes(std::span(head))); !r) return r;
    if (auto r = file.write(std::as_bytes(values)); !r) return r;
    return file.commit();
}

}  // namespace slmd::pack
