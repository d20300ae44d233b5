#include "toolchain/slmpack/source/safetensors.h"

#include <algorithm>
#include <charconv>
#include <stdexcept>

#include "base/bytes.h"
#include "image/format.h"

namespace slmd::pack {
namespace {

using nlohmann::json;

constexpr std::uint64_t max_header = 8u << 20;  // 4096 tensors take less than one
constexpr int max_depth = 64;                   // of JSON; tokenizer.json has 6

}  // namespace

Result<json> parse_json(std::string_view text, const std::string& what) {
    try {
        return json::parse(text, [&](int depth, json::parse_event_t, json&) {
            if (depth > max_depth) throw std::length_error("nested too deeply");
            return true;
        });
    } catch (const json::parse_error& e) {
        return Error::make(Code::model_format, "%s is not JSON: wrong at byte %zu", what.c_str(), e.byte);
    } catch (const std::exception& e) {
        return Error::make(Code::model_format, "%s cannot be read: %.80s", what.c_str(), e.what());
    }
}

Result<ShardIndex> read_shard_index(std::string_view text) {
    const std::string what = "model.safetensors.index.json";
    const json index = TRY(parse_json(text, what));
    const auto map = index.is_object() ? index.find("weight_map") : index.end();
    if (map == index.end() || !map->is_object() || map->empty())
        return Error::make(Code::model_format, "%s: key weight_map is missing or empty", what.c_str());
    ShardIndex shards;
    for (const auto& [tensor, file] : map->items()) {
        const std::string name = file.is_string() ? file.get<std::string>() : "";
        if (name.find('/') != name.npos || !name.ends_with(".safetensors"))
            return Error::make(Code::model_format,
                               "%s: tensor %s: \"%s\" is no safetensors file beside it: download the folder again",
                               what.c_str(), shown(tensor).c_str(), shown(name).c_str());
        shards[name].push_back(tensor);
    }
    for (const auto& [name, tensors] : shards) {  // model-00001-of-00002.safetensors
        const std::size_t stem = name.size() - std::char_traits<char>::length(".safetensors"), at = name.rfind("-of-");
        if (at == name.npos || at + 4 >= stem) continue;
        std::size_t count = 0;
        const auto [end, error] = std::from_chars(name.data() + at + 4, name.data() + stem, count);
        if (error == std::errc{} && end == name.data() + stem && count != shards.size())
            return Error::make(Code::model_format,
                               "%s: it names %zu files, one of them %s: the index is incomplete: download it again",
                               what.c_str(), shards.size(), shown(name).c_str());
    }
    return shards;
}

Result<void> read_safetensors(std::span<const std::byte> bytes, const std::string& file,
                              std::map<std::string, StoredTensor>& into) {
    const std::string name = shown(file);
    const auto wrong = [&](const std::string& what) {
        return Error::make(Code::model_format, "%s: %s", name.c_str(), what.c_str());
    };
    ByteReader in(bytes);
    const auto header_size = in.get<std::uint64_t>();
    if (!in.ok()) return wrong("the file is empty or truncated");
    if (header_size > max_header || header_size > in.left())
        return wrong("its header says it is " + std::to_string(header_size) +
                     " bytes long: the file is truncated, damaged or no safetensors file");
    const json header = TRY(parse_json(in.text(std::size_t(header_size)), name + ": its header"));
    if (!header.is_object()) return wrong("its header is not a JSON object");
    if (header.size() > image::max_tensors + 1)
        return wrong(std::to_string(header.size()) + " tensors: at most " + std::to_string(image::max_tensors) +
                     " are allowed");
    const auto data = bytes.subspan(in.at());

    struct Place {
        std::uint64_t begin, end;
        std::string name;
    };
    std::vector<Place> places;
    for (const auto& item : header.items()) {
        const std::string& key = item.key();
        const json& value = item.value();
        if (key == "__metadata__") continue;
        const std::string what = "tensor " + shown(key);
        const auto number = [](const json& v) { return v.is_number_unsigned() ? v.get<std::uint64_t>() : UINT64_MAX; };
        const json none;
        const auto part = [&](const char* field) -> const json& {
            return value.is_object() && value.contains(field) ? value[field] : none;
        };
        const json &dtype = part("dtype"), &shape = part("shape"), &offsets = part("data_offsets");
        if (!dtype.is_string() || !shape.is_array() || !offsets.is_array() || offsets.size() != 2)
            return wrong(what + " has no dtype, shape or data_offsets");
        const std::string type_name = dtype.get<std::string>();
        if (type_name != "F32" && type_name != "F16" && type_name != "BF16" && type_name != "I32" && type_name != "I64")
            return Error::make(Code::not_supported, "%s: %s is of type %s: slmpack reads F32 F16 BF16", name.c_str(),
                               what.c_str(), shown(type_name).c_str());
        StoredTensor t{tensor_type(type_name.c_str()), 1, 1, {}};
        if (shape.size() > 3)
            return Error::make(Code::not_supported,
                               "%s: %s has %zu dimensions: it is neither a matrix nor a stack of them", name.c_str(),
                               what.c_str(), shape.size());
        // A stack's matrices stand one below the other.
        for (std::size_t d = 0; d < shape.size(); d++) {
            const auto n = number(shape[d]);
            std::uint32_t& size = d + 1 < shape.size() ? t.rows : t.cols;
            if (n < 1 || n > UINT32_MAX || n * size > UINT32_MAX)
                return wrong(what + ": a dimension is zero or too large");
            size *= std::uint32_t(n);
        }
        const auto begin = number(offsets[0]), end = number(offsets[1]), size = std::uint64_t(t.rows) * t.cols;
        if (begin > end || end > data.size())
            return wrong(what + " ends at offset " + std::to_string(end) + " of " + std::to_string(data.size()) +
                         " bytes of data: the file is truncated or damaged");
        if ((end - begin) % t.type->bytes != 0 || (end - begin) / t.type->bytes != size)
            return wrong(what + ": " + std::to_string(end - begin) + " bytes do not hold " + std::to_string(size) +
                         " values of type " + type_name);
        t.bytes = data.subspan(std::size_t(begin), std::size_t(end - begin));
        places.push_back({begin, end, key});
        if (!into.emplace(key, t).second) return wrong(what + " stands in another file too");
    }
    std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.begin < b.begin; });
    std::uint64_t at = 0;
    for (const auto& p : places) {
        if (p.begin != at)
            return wrong("tensor " + shown(p.name) + " begins at offset " + std::to_string(p.begin) +
                         (p.begin < at ? ", inside the one before it" : ", behind a hole"));
        at = p.end;
    }
    if (at != data.size())
        return wrong("the file is longer than its tensors, which end at offset " + std::to_string(at) + " of the data");
    return {};
}

Result<std::string> file_text(const std::string& path, std::size_t most) {
    const FileBytes file = TRY(FileBytes::open(path));
    if (file.bytes.size() > most)
        return Error::make(Code::model_format, "%.150s: %zu bytes: too long for a text of settings", path.c_str(),
                           file.bytes.size());
    return std::string(reinterpret_cast<const char*>(file.bytes.data()), file.bytes.size());
}

}  // namespace slmd::pack
