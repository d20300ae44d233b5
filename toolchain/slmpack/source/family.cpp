#include "toolchain/slmpack/source/family.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <sstream>

namespace slmd::pack {
namespace {

using image::ModelParams;

struct Field {
    const char* name;
    std::uint32_t ModelParams::*size;
    float ModelParams::*real;
    std::uint32_t max;  // of a size; large enough for every published model, small enough that no product of two
                        // overflows 64 bits
};
constexpr Field fields[] = {
    {"layers", &ModelParams::layers, nullptr, 1024},      {"dim", &ModelParams::dim, nullptr, 1 << 18},
    {"hidden", &ModelParams::hidden, nullptr, 1 << 20},   {"vocab", &ModelParams::vocab, nullptr, 1 << 22},
    {"heads", &ModelParams::heads, nullptr, 4096},        {"kv_heads", &ModelParams::kv_heads, nullptr, 4096},
    {"head_dim", &ModelParams::head_dim, nullptr, 4096},  {"rope_dims", &ModelParams::rope_dims, nullptr, 4096},
    {"context", &ModelParams::context, nullptr, 1 << 28}, {"norm_eps", nullptr, &ModelParams::norm_eps, 0},
    {"rope_theta", nullptr, &ModelParams::rope_theta, 0},
};

const Field* field_named(std::string_view name) {
    for (const auto& f : fields)
        if (name == f.name) return &f;
    return nullptr;
}

std::optional<Form> form_named(std::string_view name) {
    if (name == "gguf") return Form::gguf;
    if (name == "hugging_face") return Form::hugging_face;
    if (name == "llama2.c") return Form::llama2c;
    return std::nullopt;
}

std::optional<double> parse_number(std::string_view text) {
    double v;
    const auto r = std::from_chars(text.data(), text.data() + text.size(), v);
    if (r.ec != std::errc() || r.ptr != text.data() + text.size()) return std::nullopt;
    return v;
}

std::optional<double> param_value(const ModelParams& p, std::string_view name) {
    const Field* f = field_named(name);
    if (!f) return std::nullopt;
    return f->size ? double(p.*f->size) : double(p.*f->real);
}

// "error" has been handled: a number, a parameter, or a quotient of two parameters.
std::optional<double> default_value(const ModelParams& p, std::string_view text, std::uint32_t embedding_rows) {
    if (text == "embedding") return embedding_rows;
    if (const auto slash = text.find('/'); slash != text.npos) {
        const auto a = param_value(p, text.substr(0, slash)), b = param_value(p, text.substr(slash + 1));
        if (!a || !b || *b == 0) return std::nullopt;
        return *a / *b;
    }
    if (const auto v = param_value(p, text)) return v;
    return parse_number(text);
}

std::string with_layer(std::string name, std::uint32_t layer) {
    if (const auto star = name.find('*'); star != name.npos) name.replace(star, 1, std::to_string(layer));
    return name;
}

}  // namespace

Result<Family> parse_family(std::string_view text) {
    Family f;
    std::istringstream lines{std::string(text)};
    std::string line;
    for (int n = 1; std::getline(lines, line); n++) {
        std::istringstream stream(line.substr(0, line.find('#')));
        std::vector<std::string> w;
        for (std::string word; stream >> word;) w.push_back(word);
        if (w.empty()) continue;
        const auto wrong = [&](const char* what) {
            return Error::make(Code::incorrect_parameters, "family table, line %d: %s: %.100s", n, what, line.c_str());
        };
        const std::string& head = w[0];
        if (head == "family" && w.size() == 2) {
            f.name = w[1];
        } else if (head == "gguf" && w.size() > 1) {
            f.gguf.assign(w.begin() + 1, w.end());
        } else if (head == "hugging_face" && w.size() > 1) {
            f.hugging_face.assign(w.begin() + 1, w.end());
        } else if (head == "rope") {
            for (std::size_t i = 1; i < w.size(); i++) {
                const auto colon = w[i].find(':');
                const auto form = form_named(std::string_view(w[i]).substr(0, colon));
                if (!form || colon == std::string::npos) return wrong("FORM:pairs or FORM:halves");
                if (w[i].substr(colon + 1) == "pairs") f.pairs.push_back(*form);
            }
        } else if (head == "param" && w.size() == 5) {
            if (!field_named(w[1])) return wrong("no such parameter");
            f.params.push_back({w[1], w[2], w[3], w[4]});
        } else if (head == "require" && w.size() == 4) {
            const auto form = form_named(w[1]);
            if (!form) return wrong("no such form");
            f.requirements.push_back({*form, w[2], w[3]});
        } else if (head == "tensor" && w.size() >= 6) {
            Family::Tensor t{w[1], w[2], w[3], w[4], w[5], false, false};
            for (std::size_t i = 6; i < w.size(); i++) {
                if (w[i] != "rope" && w[i] != "untied") return wrong("marks are: rope untied");
                (w[i] == "rope" ? t.rope : t.untied) = true;
            }
            if (!size_named(ModelParams{}, t.rows) || !size_named(ModelParams{}, t.cols)) return wrong("no such size");
            f.tensors.push_back(std::move(t));
        } else if (head == "ignore" && w.size() == 3) {
            const auto form = form_named(w[1]);
            if (!form) return wrong("no such form");
            f.ignored.push_back({*form, w[2]});
        } else if (head == "llama2.c") {
            f.llama2c.assign(w.begin() + 1, w.end());
        } else {
            return wrong("not understood");
        }
    }
    return f;
}

Result<Family> find_family(Form form, const std::string& architecture) {
    std::string known;
    for (const auto text : family_texts()) {
        Family f = TRY(parse_family(text));
        const auto& names = form == Form::gguf ? f.gguf : f.hugging_face;
        if (std::find(names.begin(), names.end(), architecture) != names.end()) return f;
        if (form == Form::llama2c && !f.llama2c.empty()) return f;
        for (const auto& n : names) known += " " + n;
    }
    return Error::make(Code::not_supported, "architecture \"%s\" is not supported; this slmpack imports:%.100s",
                       shown(architecture).c_str(), known.c_str());
}

std::optional<std::uint32_t> size_named(const ModelParams& p, std::string_view name) {
    if (name == "q") return p.heads * p.head_dim;
    if (name == "kv") return p.kv_heads * p.head_dim;
    if (const Field* f = field_named(name); f && f->size) return p.*f->size;
    if (const auto v = parse_number(name)) return std::uint32_t(*v);
    return std::nullopt;
}

Result<ModelParams> fill_params(const Family& family, Form form, const NumberOf& number, std::uint32_t embedding_rows) {
    ModelParams p{};
    p.embed_scale = p.residual_scale = p.logit_scale = 1;
    std::snprintf(p.family, sizeof p.family, "%s", family.name.c_str());
    for (const auto& param : family.params) {
        const std::string& keys = form == Form::gguf ? param.gguf : param.hugging_face;
        std::optional<double> v;
        if (keys != "-") v = TRY(number(keys));
        const bool given = v.has_value();
        if (!given && param.absent != "error") v = default_value(p, param.absent, embedding_rows);
        if (!v)
            return Error::make(Code::model_format, "key \"%s\" is missing: without it the model's %s is unknown",
                               keys.c_str(), param.name.c_str());
        const Field* field = field_named(param.name);
        if (field->size) {
            if (!(*v >= 1 && *v <= field->max) || *v != std::floor(*v))
                return Error::make(Code::model_format, "%s%s is %.10g: not a whole number from 1 to %u",
                                   given ? "key " : "", given ? keys.c_str() : param.name.c_str(), *v, field->max);
            p.*field->size = std::uint32_t(*v);
        } else {
            if (!(*v >= 0 && *v <= 1e12))
                return Error::make(Code::model_format, "key %s is %g: not a number from 0 to 1e12", keys.c_str(), *v);
            p.*field->real = float(*v);
        }
    }
    if (auto r = check_params(p); !r) return r.error();
    return p;
}

Result<void> check_params(const ModelParams& p) {
    for (const auto& f : fields)
        if (f.size && (p.*f.size < 1 || p.*f.size > f.max))
            return Error::make(Code::model_format, "the model's %s is %u: not from 1 to %u", f.name, p.*f.size, f.max);
    if (p.heads % p.kv_heads != 0)
        return Error::make(Code::model_format, "%u heads cannot share %u key-value heads evenly", p.heads, p.kv_heads);
    if (p.rope_dims % 2 != 0 || p.rope_dims > p.head_dim)
        return Error::make(Code::model_format, "%u rotated dimensions: must be even and at most the head's %u",
                           p.rope_dims, p.head_dim);
    if (!(p.rope_theta > 0))
        return Error::make(Code::model_format, "RoPE base %g is not positive", double(p.rope_theta));
    return {};
}

std::vector<Expected> expected_tensors(const Family& family, Form form, const ModelParams& p) {
    std::vector<Expected> all;
    const bool tied = p.flags & image::flag_tied_output;
    const auto add = [&](const Family::Tensor& t, std::uint32_t layer) {
        // llama2.c has no names: its reader uses ours.
        const std::string& source = form == Form::hugging_face ? t.hugging_face : form == Form::gguf ? t.gguf : t.name;
        all.push_back({with_layer(t.name, layer), with_layer(source, layer), *size_named(p, t.rows),
                       *size_named(p, t.cols), t.rope});
    };
    for (std::size_t i = 0; i < family.tensors.size();) {
        if (family.tensors[i].name.find('*') == std::string::npos) {
            if (!(family.tensors[i].untied && tied)) add(family.tensors[i], 0);
            i++;
            continue;
        }
        std::size_t end = i;  // the run of tensors that every layer has
        while (end < family.tensors.size() && family.tensors[end].name.find('*') != std::string::npos) end++;
        for (std::uint32_t layer = 0; layer < p.layers; layer++)
            for (std::size_t j = i; j < end; j++) add(family.tensors[j], layer);
        i = end;
    }
    return all;
}

bool is_ignored(const Family& family, Form form, const std::string& name) {
    for (const auto& i : family.ignored) {
        if (i.form != form) continue;
        const auto star = i.name.find('*');
        if (star == std::string::npos) {
            if (i.name == name) return true;
            continue;
        }
        const auto head = i.name.substr(0, star), tail = i.name.substr(star + 1);
        if (name.size() > head.size() + tail.size() && name.starts_with(head) && name.ends_with(tail) &&
            std::all_of(name.begin() + long(head.size()), name.end() - long(tail.size()),
                        [](char c) { return c >= '0' && c <= '9'; }))
            return true;
    }
    return false;
}

std::vector<float> plain_inv_freq(const ModelParams& p) {
    std::vector<float> f(p.rope_dims / 2);
    for (std::size_t i = 0; i < f.size(); i++)
        f[i] = float(std::pow(double(p.rope_theta), -2.0 * double(i) / p.rope_dims));
    return f;
}

std::string shown(std::string_view text) {
    std::string s(text.substr(0, 64));
    for (char& c : s)
        if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7F) c = '?';
    if (text.size() > 64) s += "...";
    return s;
}

void set_name(ModelParams& p, const std::string& path) {
    std::filesystem::path file(path);
    if (!file.has_filename()) file = file.parent_path();
    std::string name = file.filename().string();
    for (const char* extension : {".gguf", ".bin", ".safetensors"})
        if (name.size() > std::char_traits<char>::length(extension) && name.ends_with(extension))
            name.resize(name.size() - std::char_traits<char>::length(extension));
    // ".Q4_1", "-Q4_K_M", "-f16" at the end is a number format, not the model.
    if (const auto at = name.find_last_of(".-"); at != std::string::npos && at > 0) {
        std::string tail = name.substr(at + 1);
        for (char& c : tail) c = char(std::toupper(static_cast<unsigned char>(c)));
        const bool format =
            (tail.size() > 2 && (tail[0] == 'Q' || tail.starts_with("IQ")) && tail.find('_') != tail.npos) ||
            tail == "F32" || tail == "F16" || tail == "BF16";
        if (format) name.resize(at);
    }
    std::snprintf(p.name, sizeof p.name, "%s", shown(name).c_str());
}

}  // namespace slmd::pack
