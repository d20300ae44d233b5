#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <map>
#include <sstream>
#include <utility>

#include "base/file.h"
#include "prune.h"
#include "toolchain/slmpack/source/family.h"
#include "toolchain/slmpack/source/safetensors.h"
#include "toolchain/slmpack/source/tensor_types.h"
#include "vocabulary.h"

namespace slmd::pack {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

Error failed(const std::string& path, const std::error_code& why) {
    return Error::make(Code::storage_failure, "%.150s: %s", path.c_str(), why.message().c_str());
}

std::uint16_t to_bf16(float f) {  // to nearest, ties to even
    const auto bits = std::bit_cast<std::uint32_t>(f);
    return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// Sets the first of "a|b.c" that is there.
Result<void> set_key(Json& config, const std::string& keys, std::uint32_t value) {
    std::istringstream alternatives(keys);
    for (std::string key; std::getline(alternatives, key, '|');) {
        Json* v = &config;
        std::istringstream path(key);
        for (std::string part; v != nullptr && std::getline(path, part, '.');)
            v = v->is_object() && v->contains(part) ? &(*v)[part] : nullptr;
        if (v == nullptr) continue;
        *v = value;
        return {};
    }
    return Error::make(Code::model_format, "config.json has none of %s", keys.c_str());
}

// A file's tensor: ours stand in it one below the other.
struct Piece {
    std::uint32_t layer;  // of those that are kept
    Expected to;
    std::string from;  // the image's name in the source
};
struct Target {
    std::string name, type;
    std::vector<Piece> pieces;
    std::uint64_t rows = 0, cols = 0;
};

class Writer {
  public:
    Writer(const Source& source, const Kept& kept, const Family& family)
        : source_(source), kept_(kept), family_(family), params_(source.params) {
        params_.layers = static_cast<std::uint32_t>(kept.layers.size());
        params_.hidden = static_cast<std::uint32_t>(kept.channels[0].size());
        if (!kept.tokens.empty()) params_.vocab = static_cast<std::uint32_t>(kept.tokens.size());
    }

    Result<void> config(const std::string& from, const std::string& to) const {
        const std::string text = TRY(file_text(from));
        TRY(parse_json(text, "config.json"));  // bounded
        Json config = Json::parse(text);
        for (const auto& p : family_.params) {
            if (p.name == "layers") TRY(set_key(config, p.hugging_face, params_.layers));
            if (p.name == "hidden") TRY(set_key(config, p.hugging_face, params_.hidden));
            if (p.name == "vocab" && !kept_.tokens.empty()) TRY(set_key(config, p.hugging_face, params_.vocab));
        }
        if (!kept_.tokens.empty()) renumber_config(config, kept_.tokens);
        std::string lists = "layer_types";  // an entry a layer
        for (const auto& pattern : family_.patterns) lists += "|" + pattern.hugging_face;
        std::istringstream names(lists);
        for (std::string key; std::getline(names, key, '|');) {
            if (!config.contains(key) || !config[key].is_array() || config[key].size() != source_.params.layers)
                continue;
            const Json all = std::exchange(config[key], Json::array());
            for (const std::uint32_t layer : kept_.layers) config[key].push_back(all[layer]);
        }
        const std::string written = config.dump(2) + "\n";
        return write_file(to.c_str(), std::as_bytes(std::span(written)));
    }

    Result<void> tensors(const std::string& path) const {
        const std::vector<Target> all = TRY(targets());
        Json header;
        header["__metadata__"]["format"] = "pt";
        std::uint64_t at = 0;
        for (const Target& t : all) {
            const std::uint64_t end = at + t.rows * t.cols * (t.type == "F32" ? 4 : 2);
            Json& h = header[t.name];
            h["dtype"] = t.type;
            h["shape"] = t.rows == 1 ? Json::array({t.cols}) : Json::array({t.rows, t.cols});
            h["data_offsets"] = {at, end};
            at = end;
        }
        std::string head = header.dump();
        head.append((8 - head.size() % 8) % 8, ' ');
        AtomicFile file = TRY(AtomicFile::create(path.c_str()));
        const std::uint64_t size = head.size();
        TRY(file.write(std::as_bytes(std::span(&size, 1))));
        TRY(file.write(std::as_bytes(std::span(head))));
        for (const Target& t : all)
            for (const Piece& piece : t.pieces) TRY(put(file, t.type, TRY(values(piece))));
        return file.commit();
    }

  private:
    // By the names of the form, in execution order.
    Result<std::vector<Target>> targets() const {
        std::vector<Target> all;
        std::map<std::string, std::size_t> places;
        for (const Expected& e : expected_tensors(family_, Form::hugging_face, params_)) {
            Piece piece{0, e, e.name};
            if (e.name.starts_with("blk.")) {
                const std::size_t dot = e.name.find('.', 4);
                piece.layer = static_cast<std::uint32_t>(std::stoul(e.name.substr(4, dot - 4)));
                piece.from = "blk." + std::to_string(kept_.layers[piece.layer]) + e.name.substr(dot);
            }
            const SourceTensor* const from = source_.find(piece.from);
            if (from == nullptr)
                return Error::make(Code::not_supported, "tensor %s has no counterpart", piece.from.c_str());
            const auto [place, fresh] = places.emplace(e.source, all.size());
            if (fresh) all.push_back({e.source, from->type, {}, 0, e.cols});
            Target& t = all[place->second];
            if (e.first_row != t.rows || e.cols != t.cols || from->type != t.type)
                return Error::make(Code::not_supported, "tensor %s is made of parts that are not in order",
                                   e.source.c_str());
            t.rows += e.rows;
            t.pieces.push_back(std::move(piece));
        }
        return all;
    }

    Result<std::vector<float>> values(const Piece& piece) const {
        const SourceTensor& from = *source_.find(piece.from);
        std::vector<float> v = TRY(source_.read(from));
        const std::vector<std::uint32_t>& channels = kept_.channels[piece.layer];
        const std::string_view name = std::string_view(piece.from).substr(piece.from.rfind('.') + 1);
        const auto keep_rows = [&](const std::vector<std::uint32_t>& rows) {
            for (std::size_t r = 0; r < rows.size(); r++)
                std::memmove(v.data() + r * from.cols, v.data() + std::size_t{rows[r]} * from.cols,
                             from.cols * sizeof(float));
        };
        if (name == "ffn_gate" || name == "ffn_up") {
            keep_rows(channels);
        } else if (name == "token_embd" || name == "output") {
            keep_rows(kept_.tokens);
        } else if (name == "ffn_down") {
            float* to = v.data();
            for (std::size_t r = 0; r < from.rows; r++)
                for (const std::uint32_t c : channels) *to++ = v[r * from.cols + c];
        }
        v.resize(std::size_t{piece.to.rows} * piece.to.cols);
        if (piece.to.plus_one)
            for (float& x : v) x -= 1;
        return v;
    }

    static Result<void> put(AtomicFile& file, const std::string& type, const std::vector<float>& v) {
        if (type == "F32") return file.write(std::as_bytes(std::span(v)));
        std::vector<std::uint16_t> half(v.size());
        for (std::size_t i = 0; i < v.size(); i++) half[i] = type == "F16" ? float_to_half(v[i]) : to_bf16(v[i]);
        return file.write(std::as_bytes(std::span(half)));
    }

    const Source& source_;
    const Kept& kept_;
    const Family& family_;
    image::ModelParams params_;
};

// What was written is what was meant, as every reader sees it.
Result<void> check(const Source& source, const Kept& kept, const std::string& folder) {
    const auto read = Source::open(folder);
    if (!read) return read.error();
    const image::ModelParams &a = source.params, &b = read.value()->params;
    for (std::uint32_t i = 0; i < b.layers; i++)
        if (image::layer_bit(a.sliding, kept.layers[i]) != image::layer_bit(b.sliding, i) ||
            image::layer_bit(a.no_rope, kept.layers[i]) != image::layer_bit(b.no_rope, i))
            return Error::make(Code::not_supported,
                               "its layers differ in a fixed pattern, which would move when some are left out: "
                               "channels and the vocabulary alone can be pruned");
    const TokenizerSpec &was = source.tokenizer, &is = read.value()->tokenizer;
    bool same = kept.tokens.empty() || (is.tokens.size() == kept.tokens.size() && was.pre == is.pre);
    for (std::size_t i = 0; same && i < kept.tokens.size(); i++)
        same = is.tokens[i] == was.tokens[kept.tokens[i]] && is.types[i] == was.types[kept.tokens[i]];
    if (!same) return Error::make(Code::not_supported, "its tokenizer.json does not number its tokens alone");
    return {};
}

// Everything but weights and config.json, and the vocabulary when there is to be another.
Result<void> copy_rest(const std::string& from, const std::string& to, bool vocabulary) {
    std::error_code why;
    for (fs::directory_iterator i(from, why), end; !why && i != end; i.increment(why)) {
        const std::string name = i->path().filename().string();
        const bool weights = name.ends_with(".safetensors") || name.ends_with(".index.json") ||
                             name.ends_with(".bin") || name.ends_with(".pth") || name == "config.json";
        if (weights || (!vocabulary && names_vocabulary(name)) || !i->is_regular_file(why)) continue;
        fs::copy_file(i->path(), to + "/" + name, why);
        if (why) break;
    }
    if (why) return failed(from, why);
    return {};
}

}  // namespace

Result<void> write_pruned(const Source& source, const Kept& kept, const std::string& folder) {
    if (source.format != "safetensors")
        return Error::make(Code::not_supported,
                           "%.120s is %s: slmpack prunes Hugging Face folders, whose weights are as they were trained",
                           source.path.c_str(), source.format.c_str());
    for (const SourceTensor& t : source.tensors)
        if (t.type != "F32" && t.type != "F16" && t.type != "BF16")
            return Error::make(Code::not_supported, "tensor %s is %s: prune the model that it was made from",
                               t.name.c_str(), t.type.c_str());
    const Family family = TRY(family_named(source.params.family));
    if (std::find(family.pairs.begin(), family.pairs.end(), Form::hugging_face) != family.pairs.end())
        return Error::make(Code::not_supported, "family %s has heads in pairs in this form", family.name.c_str());
    std::error_code why;
    if (fs::exists(folder, why))
        return Error::make(Code::not_allowed, "%.150s is there already: name a new folder", folder.c_str());
    const std::string part = folder + ".part";
    fs::remove_all(part, why);
    if (!fs::create_directory(part, why)) return failed(part, why);
    const Writer writer(source, kept, family);
    const auto write = [&]() -> Result<void> {
        TRY(copy_rest(source.path, part, kept.tokens.empty()));
        if (!kept.tokens.empty()) TRY(write_vocabulary(source.path, kept.tokens, part));
        TRY(writer.config(source.path + "/config.json", part + "/config.json"));
        TRY(writer.tensors(part + "/model.safetensors"));
        return check(source, kept, part);
    };
    if (auto written = write(); !written) {
        fs::remove_all(part, why);
        return written;
    }
    fs::rename(part, folder, why);
    if (why) return failed(folder, why);
    return {};
}

}  // namespace slmd::pack
