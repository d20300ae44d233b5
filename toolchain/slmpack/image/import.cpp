#include "import.h"

#include <zstd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "amend.h"
#include "balance.h"
#include "base/file.h"
#include "base/sha256.h"
#include "image/layout.h"
#include "quantize.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

namespace slmd::pack {
namespace {

namespace fs = std::filesystem;
using image::Kind;
using Json = nlohmann::ordered_json;

constexpr char rope_tensor[] = "rope.inv_freq", local_rope_tensor[] = "rope.inv_freq_local";

bool is_vector(const SourceTensor& t) { return t.rows == 1; }
bool is_float(const SourceTensor& t) {
    return t.type == "F32" || t.type == "F16" || t.type == "BF16" || t.type == "F64";
}
bool is_embedding(const SourceTensor& t) {
    return t.name == "token_embd" || t.name == "output" || t.name == "position_embd" || t.name == "token_types";
}

Result<TensorData> convert(const Source& source, const SourceTensor& tensor, Kind kind, bool requantize,
                           KindSummary& summary) {
    if (!requantize && kind != Kind::f32 && !is_float(tensor)) {
        if (auto codes = TRY(source.codes(tensor))) {
            const std::size_t groups = std::size_t{tensor.rows} * (tensor.cols / 32);
            if (codes->kind != kind || codes->codes.size() != std::size_t{tensor.rows} * tensor.cols ||
                codes->scales.size() != (kind == Kind::i4 ? 0 : groups) ||
                codes->minimums.size() != (kind == Kind::i4a ? groups : 0) ||
                codes->indices.size() != (kind == Kind::i4 ? groups : 0) ||
                codes->steps.size() != (kind == Kind::i4 ? tensor.rows : 0))
                return Error::make(Code::unknown, "the source's codes do not have the tensor's shape");
            TensorData t{.kind = kind, .rows = tensor.rows, .cols = tensor.cols};
            t.codes = std::move(codes->codes);
            t.scales = std::move(codes->scales);
            t.minimums = std::move(codes->minimums);
            t.indices = std::move(codes->indices);
            t.steps = std::move(codes->steps);
            t.book = codes->book;
            return t;
        }
    }
    const std::vector<float> values = TRY(source.read(tensor));
    if (values.size() != std::size_t{tensor.rows} * tensor.cols)
        return Error::make(Code::unknown, "the source gave %zu values", values.size());
    if (kind == Kind::f32) return keep_f32(values, tensor.rows, tensor.cols);
    TensorData t = TRY(kind == Kind::i4   ? quantize_i4(values, tensor.rows, tensor.cols)
                       : kind == Kind::i6 ? quantize_i6(values, tensor.rows, tensor.cols)
                                          : quantize_i8(values, tensor.rows, tensor.cols));
    const std::vector<float> rounded = dequantize(t);
    for (std::size_t i = 0; i < values.size(); i++) {
        const double e = static_cast<double>(values[i]) - rounded[i];
        summary.error += e * e;
        summary.power += static_cast<double>(values[i]) * values[i];
    }
    return t;
}

std::string provenance(const Source& source, const SourceFiles& files, const ImportOptions& options,
                       const ImportSummary& summary, const Balance& balance) {
    Json kinds = Json::object();
    for (const auto& [kind, k] : summary.kinds) {
        Json& entry = kinds[image::kind_name(kind)] = {{"tensors", k.tensors}, {"weights", k.weights}, {"raw", k.raw}};
        if (k.power > 0)
            entry["rounding_error"] = std::round(std::sqrt(k.error / k.power) * 1e6) / 1e6;  // relative RMS
    }
    Json record{{"tool", "slmpack " SLMD_VERSION},
                {"source", {{"format", source.format}, {"files", Json::parse(files.json)}}}};
    if (options.made.empty())
        record["kind"] = options.kind ? image::kind_name(*options.kind) : "as the source";
    else
        record["quantize"] = Json::parse(options.made);
    record["kinds"] = kinds;
    if (!balance.empty()) record["balance"] = balance.letters();
    return record.dump(1, ' ', false, Json::error_handler_t::replace);
}

// Goes with the object.
struct Temporary {
    std::string path;
    ~Temporary() {
        std::error_code ignored;
        fs::remove(path, ignored);
    }
};

}  // namespace

std::string hex(const Sha256& digest) {
    std::string text;
    for (const std::uint8_t b : digest)
        for (const int shift : {4, 0}) text += "0123456789abcdef"[b >> shift & 15];
    return text;
}

Result<SourceFiles> describe_files(const std::string& path, const std::vector<std::string>& parts) {
    std::vector<fs::path> files;
    std::error_code failed;
    if (fs::is_directory(path, failed)) {
        for (const auto& entry : fs::directory_iterator(path, failed)) {
            const auto extension = entry.path().extension();
            if (entry.is_regular_file() && (extension == ".safetensors" || extension == ".json"))
                files.push_back(entry.path());
        }
        std::sort(files.begin(), files.end());
    } else {
        files.push_back(path);
        for (const std::string& part : parts) files.emplace_back(part);
    }
    SourceFiles out;
    Json list = Json::array();
    for (const fs::path& file : files) {
        const MappedFile map = TRY(MappedFile::open(file.c_str()));
        if (file.extension() != ".json") out.bytes += map.bytes().size();
        list.push_back({{"name", file.filename().string()},
                        {"bytes", map.bytes().size()},
                        {"sha256", hex(TRY(sha256(map.bytes())))}});
    }
    out.json = list.dump(1, ' ', false, Json::error_handler_t::replace);
    return out;
}

bool is_router(const SourceTensor& t) { return t.name.ends_with(".ffn_gate_inp"); }

Result<double> stored_besides_matrices(const Source& source) {
    double bytes = 0;
    for (const SourceTensor& t : source.tensors) bytes += is_vector(t) || is_router(t) ? 4.0 * t.rows * t.cols : 0;
    if (!source.tokenizer.tokens.empty()) {
        const std::vector<std::byte> section = TRY(build_tokenizer(source.tokenizer));
        std::vector<std::byte> compressed(ZSTD_compressBound(section.size()));
        const std::size_t n = ZSTD_compress(compressed.data(), compressed.size(), section.data(), section.size(), 9);
        bytes += static_cast<double>(ZSTD_isError(n) ? section.size() : n);
    }
    return bytes;
}

Result<Kind> kind_of(const Source& source, const SourceTensor& tensor, const ImportOptions& options) {
    if (is_vector(tensor) || is_router(tensor)) return Kind::f32;
    if (const auto made = options.kinds.find(tensor.name); made != options.kinds.end()) return made->second;
    if (options.kind == Kind::f32 && (source.params.flags & image::flag_encoder) == 0)
        return Error::make(Code::not_supported, "f32 is for encoders: the engine runs other models in 4 and 8 bits");
    if (options.kind) return *options.kind;
    // Of an encoder what attention passes on, a sixth of a layer, costs in 4 bits as much as all else together.
    const bool passed_on = (source.params.flags & image::flag_encoder) != 0 &&
                           (tensor.name.ends_with(".attn_v") || tensor.name.ends_with(".attn_output"));
    if (is_float(tensor)) return is_embedding(tensor) || passed_on ? Kind::i8 : Kind::i4;
    if (const auto codes = TRY(source.codes(tensor))) return codes->kind;
    return Kind::i8;  // rounded to 4 bits, it would lose what the source still has
}

Result<ImportSummary> import_model(const Source& source, const std::string& path, const ImportOptions& options) {
    const SourceFiles files = TRY(describe_files(source.path, source.parts));
    ImageContents contents;
    contents.params = source.params;
    if (!options.name.empty()) {
        if (options.name.size() >= sizeof contents.params.name)
            return Error::make(Code::incorrect_parameters, "--name: at most %zu bytes",
                               sizeof contents.params.name - 1);
        std::memset(contents.params.name, 0, sizeof contents.params.name);
        std::memcpy(contents.params.name, options.name.data(), options.name.size());
    }
    if (!source.tokenizer.tokens.empty()) {
        contents.tokenizer = TRY(build_tokenizer(source.tokenizer));
        contents.chat = TRY(build_chat(source.chat_template, source.tokenizer, options.chat_template));
    }

    std::vector<const SourceTensor*> order;
    for (const SourceTensor& t : source.tensors) order.push_back(&t);
    // A tied embedding is read in full only as the output matrix: last. Of any other a few rows are wanted at a time.
    const bool tied = (source.params.flags & image::flag_tied_output) != 0;
    // An encoder asks for the rows of a whole batch of texts at once.
    const bool on_demand = !tied && (source.params.flags & image::flag_encoder) == 0;
    if (tied)
        std::stable_partition(order.begin(), order.end(),
                              [](const SourceTensor* t) { return t->name != "token_embd"; });
    if (!source.inv_freq.empty())
        contents.tensors.push_back({rope_tensor, Kind::f32, 1, static_cast<std::uint32_t>(source.inv_freq.size())});
    if (!source.inv_freq_local.empty())
        contents.tensors.push_back(
            {local_rope_tensor, Kind::f32, 1, static_cast<std::uint32_t>(source.inv_freq_local.size())});
    for (const SourceTensor* t : order)
        contents.tensors.push_back(
            {t->name, TRY(kind_of(source, *t, options)), t->rows, t->cols,
             (on_demand && t->name == "token_embd") || t->name.ends_with("_exps") ? image::residency_on_demand : 0});

    const Balance balance = TRY(Balance::of(source));
    ImportSummary summary;
    summary.source_bytes = files.bytes;
    contents.tensor = [&](const TensorSpec& spec) -> Result<TensorData> {
        KindSummary& kind = summary.kinds[spec.kind];
        kind.tensors++;
        kind.weights += std::uint64_t{spec.rows} * spec.cols;
        if (spec.name == rope_tensor) return keep_f32(source.inv_freq, 1, spec.cols);
        if (spec.name == local_rope_tensor) return keep_f32(source.inv_freq_local, 1, spec.cols);
        const SourceTensor& from = *source.find(spec.name);
        TensorData data = options.kinds.contains(spec.name)
                              ? TRY(options.tensor(from))
                              : TRY(convert(source, from, spec.kind, options.kind.has_value(), kind));
        TRY(balance.apply(spec.name, data));
        return data;
    };
    contents.written = [&](const TensorSpec& spec, const TensorSummary& s) {
        KindSummary& kind = summary.kinds[spec.kind];
        kind.raw += s.codes.raw + s.scales.raw + s.steps.raw;
        kind.stored += s.codes.stored + s.scales.stored + s.steps.stored;
    };
    contents.provenance = [&] { return provenance(source, files, options, summary, balance); };
    if (!options.golden) {
        const WriteSummary written = TRY(write_image(path, contents, options.write));
        summary.raw_bytes = written.raw;
        summary.image_bytes = written.stored;
        return summary;
    }
    // Under another name until it is whole: who was interrupted must not find an image that looks finished.
    const Temporary unasked{path + ".unasked"};
    TRY(write_image(unasked.path, contents, options.write));
    Amendment amendment;
    auto golden = options.golden(unasked.path);
    if (!golden)
        return Error::make(golden.error().code, "golden prompts: %s (--no-golden makes an image without them)",
                           golden.error().text);
    amendment.golden = std::move(*golden);
    const AmendSummary written = TRY(amend_image(unasked.path, path, amendment));
    summary.raw_bytes = written.raw;
    summary.image_bytes = written.bytes;
    return summary;
}

}  // namespace slmd::pack
