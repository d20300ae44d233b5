#include "toolchain/slmpack/source/gguf.h"

#include <algorithm>

#include "base/bytes.h"
#include "image/format.h"
#include "toolchain/slmpack/source/family.h"

namespace slmd::pack {
namespace {

// Bytes of a value; 0: not of a fixed size.
std::size_t size_of(std::uint32_t type) {
    constexpr std::size_t sizes[Gguf::type_count] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return sizes[type];
}

constexpr std::uint64_t max_name = 65535, max_elements = std::uint64_t(1) << 40;

Error truncated(std::size_t at, const std::string& what) {
    return Error::make(Code::model_format, "GGUF ends inside %s, at offset %zu: the file is truncated or damaged",
                       what.c_str(), at);
}

Result<std::string_view> read_text(ByteReader& in, const std::string& what, std::uint64_t max) {
    const std::size_t at = in.at();
    const auto length = in.get<std::uint64_t>();
    if (!in.ok()) return truncated(at, what);
    if (length > max || length > in.left())
        return Error::make(Code::model_format,
                           "GGUF: %s, at offset %zu, says it is %llu bytes long: more than there are or may be",
                           what.c_str(), at, static_cast<unsigned long long>(length));
    return in.text(std::size_t(length));
}

}  // namespace

Result<Gguf> Gguf::open(std::span<const std::byte> bytes) {
    Gguf g;
    g.bytes_ = bytes;
    ByteReader in(bytes);
    if (in.text(4) != "GGUF")
        return Error::make(Code::model_format, "not a GGUF file: it does not begin with \"GGUF\"");
    g.version_ = in.get<std::uint32_t>();
    const auto tensor_count = in.get<std::uint64_t>(), key_count = in.get<std::uint64_t>();
    if (!in.ok()) return truncated(in.at(), "its header");
    if (g.version_ != 2 && g.version_ != 3)
        return Error::make(Code::model_format, "GGUF version %u%s: this slmpack reads 2 and 3, little endian",
                           g.version_, g.version_ != 0 && (g.version_ & 0xFFFF) == 0 ? " (a big-endian file)" : "");
    if (tensor_count > image::max_tensors)
        return Error::make(Code::model_format, "GGUF: %llu tensors, at offset 8: at most %u are allowed",
                           static_cast<unsigned long long>(tensor_count), image::max_tensors);
    if (key_count > in.left() / 13)  // a key is 8 bytes of length, 4 of type, 1 of value at least
        return Error::make(Code::model_format, "GGUF: %llu keys, at offset 16: more than the file can hold",
                           static_cast<unsigned long long>(key_count));

    for (std::uint64_t k = 0; k < key_count; k++) {
        const std::size_t at = in.at();
        const std::string name(TRY(read_text(in, "name of key " + std::to_string(k), max_name)));
        const std::string what = "key " + shown(name);
        const auto type = in.get<std::uint32_t>();
        if (!in.ok()) return truncated(in.at(), what);
        if (type >= type_count)
            return Error::make(Code::model_format, "GGUF: %s, at offset %zu, has the unknown type %u", what.c_str(), at,
                               type);
        Value v{Type(type), Type(type), 1, 0};
        if (type == array) {
            const auto element = in.get<std::uint32_t>();
            v.count = in.get<std::uint64_t>();
            if (!in.ok()) return truncated(in.at(), what);
            if (element >= type_count || element == array)
                return Error::make(Code::model_format, "GGUF: %s, at offset %zu, is an array of the unknown type %u",
                                   what.c_str(), at, element);
            v.element = Type(element);
            const std::size_t least = element == string ? 8 : size_of(element);
            if (v.count > in.left() / least)
                return Error::make(Code::model_format,
                                   "GGUF: %s, at offset %zu, has %llu elements: more than the file can hold",
                                   what.c_str(), at, static_cast<unsigned long long>(v.count));
        }
        v.offset = in.at();
        if (v.element == string) {
            for (std::uint64_t i = 0; i < v.count; i++) TRY(read_text(in, what, in.left()));
        } else {
            in.take(std::size_t(v.count) * size_of(v.element));
            if (!in.ok()) return truncated(v.offset, what);
        }
        if (!g.keys_.emplace(name, v).second)
            return Error::make(Code::model_format, "GGUF: %s, at offset %zu, is there twice", what.c_str(), at);
    }

    std::uint64_t alignment = 32;
    if (const auto a = TRY(g.number("general.alignment"))) {
        if (!(*a >= 1 && *a <= 1 << 20) || (std::uint64_t(*a) & (std::uint64_t(*a) - 1)) != 0)
            return Error::make(Code::model_format,
                               "GGUF: key general.alignment is %g: not a power of two up to 1048576", *a);
        alignment = std::uint64_t(*a);
    }

    struct Place {
        std::string name;
        std::uint64_t offset, size;
    };
    std::vector<Place> places;
    for (std::uint64_t t = 0; t < tensor_count; t++) {
        const std::size_t at = in.at();
        const std::string name(TRY(read_text(in, "name of tensor " + std::to_string(t), max_name)));
        const std::string what = "tensor " + shown(name);
        const auto dim_count = in.get<std::uint32_t>();
        if (!in.ok()) return truncated(in.at(), what);
        if (dim_count < 1 || dim_count > 4)
            return Error::make(Code::model_format, "GGUF: %s, at offset %zu, has %u dimensions: not 1 to 4",
                               what.c_str(), at, dim_count);
        Tensor tensor{};
        std::uint64_t elements = 1;
        for (std::uint32_t d = 0; d < dim_count; d++) {
            const auto n = in.get<std::uint64_t>();
            if (!in.ok()) return truncated(in.at(), what);
            if (n < 1 || n > max_elements / elements)
                return Error::make(Code::model_format,
                                   "GGUF: %s, at offset %zu: dimension %u is %llu: zero or too large", what.c_str(), at,
                                   d, static_cast<unsigned long long>(n));
            elements *= n;
            tensor.dims.push_back(n);
        }
        const auto type = in.get<std::uint32_t>();
        const auto offset = in.get<std::uint64_t>();
        if (!in.ok()) return truncated(in.at(), what);
        tensor.type = tensor_type(type);
        if (!tensor.type)
            return Error::make(Code::model_format, "GGUF: %s, at offset %zu, has the unknown type %u", what.c_str(), at,
                               type);
        if (!tensor.type->dequantize)
            return Error::make(
                Code::not_supported,
                "%s, at offset %zu, is of type %s: slmpack reads F32 F16 BF16 MXFP4, Q8_0 Q5_0 Q5_1 Q4_0 Q4_1, "
                "Q2_K to Q6_K, IQ4_NL IQ4_XS",
                what.c_str(), at, tensor.type->name);
        if (tensor.dims[0] % tensor.type->block != 0)
            return Error::make(Code::model_format,
                               "GGUF: %s, at offset %zu: rows of %llu values are not whole blocks of %u (%s)",
                               what.c_str(), at, static_cast<unsigned long long>(tensor.dims[0]), tensor.type->block,
                               tensor.type->name);
        if (offset % alignment != 0)
            return Error::make(Code::model_format,
                               "GGUF: %s, at offset %zu: its data begin at %llu, not a multiple of %llu", what.c_str(),
                               at, static_cast<unsigned long long>(offset), static_cast<unsigned long long>(alignment));
        places.push_back({name, offset, elements / tensor.type->block * tensor.type->bytes});
        if (!g.tensors_.emplace(name, std::move(tensor)).second)
            return Error::make(Code::model_format, "GGUF: %s, at offset %zu, is there twice", what.c_str(), at);
    }

    const std::uint64_t data = round_up(in.at(), std::size_t(alignment)),
                        room = data <= bytes.size() ? bytes.size() - data : 0;
    std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.offset < b.offset; });
    std::uint64_t end = 0;
    const Place* before = nullptr;
    for (const auto& p : places) {
        if (p.offset > room || p.size > room - p.offset)
            return Error::make(
                Code::model_format,
                "GGUF: tensor %s takes %llu bytes from offset %llu, the file has %zu: it is truncated or damaged",
                shown(p.name).c_str(), static_cast<unsigned long long>(p.size),
                static_cast<unsigned long long>(data + p.offset), bytes.size());
        if (before && p.offset < end)
            return Error::make(Code::model_format, "GGUF: tensors %s and %s overlap at offset %llu",
                               shown(before->name).c_str(), shown(p.name).c_str(),
                               static_cast<unsigned long long>(data + p.offset));
        end = p.offset + p.size;
        before = &p;
        g.tensors_.find(p.name)->second.bytes = bytes.subspan(std::size_t(data + p.offset), std::size_t(p.size));
    }
    return g;
}

Result<const Gguf::Value*> Gguf::find(std::string_view key, bool is_array, bool is_text, const char* wanted) const {
    const auto found = keys_.find(key);
    if (found == keys_.end()) return static_cast<const Value*>(nullptr);
    const Value& v = found->second;
    if ((v.type == array) != is_array || (v.element == string) != is_text)
        return Error::make(Code::model_format, "GGUF: key %s, its value at offset %zu, is not %s", shown(key).c_str(),
                           v.offset, wanted);
    return &v;
}

double Gguf::number_at(Type type, std::size_t offset) const {
    const std::byte* p = bytes_.data() + offset;
    switch (type) {
        case u8: return load<std::uint8_t>(p);
        case i8: return load<std::int8_t>(p);
        case u16: return load<std::uint16_t>(p);
        case i16: return load<std::int16_t>(p);
        case u32: return load<std::uint32_t>(p);
        case i32: return load<std::int32_t>(p);
        case f32: return load<float>(p);
        case boolean: return load<std::uint8_t>(p) != 0;
        case u64: return double(load<std::uint64_t>(p));
        case i64: return double(load<std::int64_t>(p));
        case f64: return load<double>(p);
        default: return 0;
    }
}

Result<std::optional<double>> Gguf::number(std::string_view key) const {
    const Value* v = TRY(find(key, false, false, "a number"));
    if (!v) return std::optional<double>{};
    return std::optional<double>(number_at(v->type, v->offset));
}

Result<std::vector<double>> Gguf::numbers(std::string_view key) const {
    const Value* v = TRY(find(key, true, false, "an array of numbers"));
    std::vector<double> all;
    if (!v) return all;
    all.reserve(std::size_t(v->count));
    for (std::uint64_t i = 0; i < v->count; i++)
        all.push_back(number_at(v->element, v->offset + std::size_t(i) * size_of(v->element)));
    return all;
}

Result<std::optional<std::string>> Gguf::text(std::string_view key) const {
    const Value* v = TRY(find(key, false, true, "a text"));
    if (!v) return std::optional<std::string>{};
    ByteReader in(bytes_.subspan(v->offset));
    return std::optional<std::string>(in.text(std::size_t(in.get<std::uint64_t>())));
}

Result<std::vector<std::string>> Gguf::texts(std::string_view key) const {
    const Value* v = TRY(find(key, true, true, "an array of texts"));
    std::vector<std::string> all;
    if (!v) return all;
    ByteReader in(bytes_.subspan(v->offset));
    all.reserve(std::size_t(v->count));
    for (std::uint64_t i = 0; i < v->count; i++) all.emplace_back(in.text(std::size_t(in.get<std::uint64_t>())));
    return all;
}

}  // namespace slmd::pack
