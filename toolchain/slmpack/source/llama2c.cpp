// llama2.c's first format (https://github.com/karpathy/llama2.c, export.py version 0): seven int32, then float32
// tensors without names.
#include <filesystem>
#include <set>

#include "base/bytes.h"
#include "toolchain/slmpack/source/rope.h"
#include "toolchain/slmpack/source/stored.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

namespace slmd::pack {
namespace {

// The format knows no tokenizer, and files called tok*.bin beside a model are a custom, not a rule: the first, by name,
// that is a tokenizer with as many tokens as the model has. Without one the tokens stay empty.
TokenizerSpec tokenizer_beside(const std::string& path, std::size_t vocab) {
    namespace fs = std::filesystem;
    std::error_code none;
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(fs::absolute(path, none).parent_path(), none)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with("tok") && (name.ends_with(".bin") || name.ends_with(".model")))
            names.insert(entry.path().string());
    }
    for (const auto& name : names) {
        const auto file = FileBytes::open(name);
        if (!file) continue;
        auto spec = name.ends_with(".bin") ? read_llama2c_tokenizer(file.value().bytes, name)
                                           : read_sentencepiece(file.value().bytes, name);
        if (spec && spec.value().tokens.size() == vocab) return std::move(spec).value();
    }
    return {};
}

}  // namespace

Result<std::unique_ptr<Source>> open_llama2c(FileBytes file, const std::string& path) {
    auto s = std::make_unique<StoredSource>();
    s->path = path;
    s->format = "llama2.c";
    s->files.push_back(std::move(file));
    ByteReader in(s->files[0].bytes);
    std::int32_t head[7];  // dim, hidden, layers, heads, kv_heads, vocab (negative: untied), context
    for (auto& v : head) v = in.get<std::int32_t>();
    if (!in.ok())
        return Error::make(Code::model_format, "%.150s: shorter than llama2.c's header of 28 bytes", path.c_str());
    if (head[0] == 0x616B3432)
        return Error::make(Code::not_supported, "%.150s: llama2.c's version %d: slmpack reads version 0", path.c_str(),
                           head[1]);
    if (head[0] == 0x04034B50)
        return Error::make(Code::not_supported, "%.150s: a PyTorch file: save the model as safetensors", path.c_str());
    for (int i = 0; i < 7; i++)
        if (head[i] < 1 && (i != 5 || head[i] == 0 || head[i] == INT32_MIN))
            return Error::make(Code::model_format,
                               "%.120s: number %d of its header is %d: no llama2.c file, or a damaged one",
                               path.c_str(), i, head[i]);

    const Family family = TRY(find_family(Form::llama2c, "llama2.c"));
    auto& p = s->params;
    std::snprintf(p.family, sizeof p.family, "%s", family.name.c_str());
    p.dim = std::uint32_t(head[0]);
    p.hidden = std::uint32_t(head[1]);
    p.layers = std::uint32_t(head[2]);
    p.heads = std::uint32_t(head[3]);
    p.kv_heads = std::uint32_t(head[4]);
    p.vocab = std::uint32_t(head[5] < 0 ? -head[5] : head[5]);
    p.context = std::uint32_t(head[6]);
    p.head_dim = p.rope_dims = p.dim / p.heads;
    p.flags = head[5] > 0 ? image::flag_tied_output : 0;
    p.norm_eps = 1e-5f;
    p.rope_theta = 10000;
    p.embed_scale = p.residual_scale = p.logit_scale = 1;
    if (auto r = check_params(p); !r) return r.error();
    if (p.dim % p.heads != 0)
        return Error::make(Code::model_format, "%.120s: %u dimensions are not %u equal heads", path.c_str(), p.dim,
                           p.heads);
    s->inv_freq = plain_inv_freq(p.rope_theta, p.rope_dims);
    set_name(p, path);

    std::map<std::string, StoredTensor> stored;
    const auto expected = expected_tensors(family, Form::llama2c, p);
    const auto take = [&](const std::string& name, std::uint32_t rows, std::uint32_t cols) -> Result<void> {
        const std::size_t at = in.at();
        const auto bytes = in.take(std::size_t(rows) * cols * sizeof(float));
        if (!in.ok())
            return Error::make(Code::model_format,
                               "%.100s: truncated: %s, %u x %u, from offset %zu, does not fit into %zu bytes",
                               path.c_str(), name.c_str(), rows, cols, at, s->files[0].bytes.size());
        stored[name] = {tensor_type("F32"), rows, cols, bytes};
        return {};
    };
    for (const auto& name : family.llama2c) {
        if (name == "rope_tables") {
            if (auto r = take(name, p.context, p.head_dim); !r) return r.error();
            stored.erase(name);
            continue;
        }
        const auto star = name.find('*');
        for (const auto& e : expected) {
            const bool same = star == name.npos
                                  ? e.name == name
                                  : e.name.starts_with(name.substr(0, star)) && e.name.ends_with(name.substr(star + 1));
            if (!same) continue;
            if (auto r = take(e.name, e.rows, e.cols); !r) return r.error();
        }
    }
    if (in.left() != 0)
        return Error::make(Code::model_format,
                           "%.120s: %zu bytes behind its last tensor: no llama2.c file, or a damaged one", path.c_str(),
                           in.left());
    if (auto r = s->take(family, Form::llama2c, std::move(stored)); !r) return r.error();
    s->tokenizer = tokenizer_beside(path, p.vocab);
    return std::unique_ptr<Source>(std::move(s));
}

}  // namespace slmd::pack
