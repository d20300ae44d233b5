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
    std::uint32_t least, most;  // of a size or flag; most: large enough for every published model, small enough that no
                                // product of two overflows 64 bits
    std::uint32_t flag = 0;  // not 0: neither, but this bit of ModelParams::flags
};
constexpr Field fields[] = {
    {"layers", &ModelParams::layers, nullptr, 1, image::max_layers},
    {"dim", &ModelParams::dim, nullptr, 1, 1 << 18},
    {"hidden", &ModelParams::hidden, nullptr, 1, 1 << 20},
    {"vocab", &ModelParams::vocab, nullptr, 1, 1 << 22},
    {"heads", &ModelParams::heads, nullptr, 1, 4096},
    {"kv_heads", &ModelParams::kv_heads, nullptr, 1, 4096},
    {"head_dim", &ModelParams::head_dim, nullptr, 1, 4096},
    {"rope_dims", &ModelParams::rope_dims, nullptr, 0, 4096},
    {"context", &ModelParams::context, nullptr, 1, 1 << 28},
    {"window", &ModelParams::window, nullptr, 0, 1 << 28},
    {"experts", &ModelParams::experts, nullptr, 0, image::max_experts},
    {"experts_used", &ModelParams::experts_used, nullptr, 0, image::max_experts},
    {"expert_share", nullptr, nullptr, 0, 1, image::flag_expert_share},
    {"norm_eps", nullptr, &ModelParams::norm_eps, 0, 0},
    {"rope_theta", nullptr, &ModelParams::rope_theta, 0, 0},
    {"rope_theta_local", nullptr, &ModelParams::rope_theta_local, 0, 0},
    {"attn_scale", nullptr, &ModelParams::attn_scale, 0, 0},
    {"attn_softcap", nullptr, &ModelParams::attn_softcap, 0, 0},
    {"final_softcap", nullptr, &ModelParams::final_softcap, 0, 0},
    {"embed_scale", nullptr, &ModelParams::embed_scale, 0, 0},
    {"residual_scale", nullptr, &ModelParams::residual_scale, 0, 0},
    {"logit_scale", nullptr, &ModelParams::logit_scale, 0, 0},
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
    if (f->flag != 0) return (p.flags & f->flag) != 0 ? 1 : 0;
    return f->size ? double(p.*f->size) : double(p.*f->real);
}

// f of `f(text)`, and text without it.
std::pair<std::string, std::string> function_of(const std::string& text) {
    const auto open = text.find('(');
    if (open == text.npos || !text.ends_with(')')) return {"", text};
    return {text.substr(0, open), text.substr(open + 1, text.size() - open - 2)};
}

// A function of a column: sqrt, rsqrt, inverse, or a parameter, which is multiplied.
std::optional<double> apply(const ModelParams& p, const std::string& function, double v) {
    if (function.empty()) return v;
    if (function == "sqrt") return std::sqrt(v);
    if (function == "rsqrt") return 1 / std::sqrt(v);
    if (function == "inverse") return 1 / v;
    if (const auto factor = param_value(p, function)) return *factor * v;
    return std::nullopt;
}

// "error" has been handled: a number, a parameter, a function of one, or a quotient of two.
std::optional<double> default_value(const ModelParams& p, const std::string& text, std::uint32_t embedding_rows) {
    if (text == "embedding") return embedding_rows;
    if (const auto slash = text.find('/'); slash != text.npos) {
        const auto a = param_value(p, text.substr(0, slash)), b = param_value(p, text.substr(slash + 1));
        if (!a || !b || *b == 0) return std::nullopt;
        return *a / *b;
    }
    const auto [function, argument] = function_of(text);
    auto v = param_value(p, argument);
    if (!v) v = parse_number(argument);
    return v ? apply(p, function, *v) : std::nullopt;
}

// Sum of sizes: "0", "q", "q+kv".
std::optional<std::uint32_t> sum_named(const ModelParams& p, std::string_view text) {
    std::uint32_t sum = 0;
    for (std::size_t at = 0; at <= text.size();) {
        const std::size_t end = std::min(text.find('+', at), text.size());
        const auto v = size_named(p, text.substr(at, end - at));
        if (!v) return std::nullopt;
        sum += *v;
        at = end + 1;
    }
    return sum;
}

// NAME@FIRST_ROW in a source's column.
std::pair<std::string, std::string> slice_of(const std::string& column) {
    const auto at = column.find('@');
    if (at == column.npos) return {column, "0"};
    return {column.substr(0, at), column.substr(at + 1)};
}

// Puts an entry in the place of the one of the same key, else at the end.
template <class T, class Key>
void put(std::vector<T>& list, T entry, Key T::*key) {
    for (T& old : list)
        if (old.*key == entry.*key) {
            old = std::move(entry);
            return;
        }
    list.push_back(std::move(entry));
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
        } else if (head == "like" && w.size() == 2) {
            const std::string name = f.name;
            bool found = false;
            for (const auto base : family_texts()) {
                std::istringstream words{std::string(base.substr(base.find("\nfamily ") + 1))};
                std::string key, value;
                words >> key >> value;
                if (value != w[1] || base.find("\nlike ") != base.npos) continue;
                f = TRY(parse_family(base));
                found = true;
            }
            if (!found) return wrong("no such table, or one that is itself like another");
            f.name = name;
            f.gguf.clear();
            f.hugging_face.clear();
            f.llama2c.clear();
        } else if (head == "gguf" && w.size() > 1) {
            f.gguf.assign(w.begin() + 1, w.end());
        } else if (head == "hugging_face" && w.size() > 1) {
            f.hugging_face.assign(w.begin() + 1, w.end());
        } else if (head == "rope") {
            f.pairs.clear();
            for (std::size_t i = 1; i < w.size(); i++) {
                const auto colon = w[i].find(':');
                const auto form = form_named(std::string_view(w[i]).substr(0, colon));
                if (!form || colon == std::string::npos) return wrong("FORM:pairs or FORM:halves");
                if (w[i].substr(colon + 1) == "pairs") f.pairs.push_back(*form);
            }
        } else if (head == "gate" && w.size() == 2 && (w[1] == "silu" || w[1] == "gelu")) {
            f.gelu = w[1] == "gelu";
        } else if (head == "encoder" && w.size() == 1) {
            f.encoder = true;
        } else if (head == "pattern" && w.size() == 5) {
            const auto period = parse_number(w[4]);
            if (w[1] != "sliding" && w[1] != "no_rope") return wrong("patterns are: sliding no_rope");
            if (!period) return wrong("no period");
            put(f.patterns, {w[1], w[2], w[3], std::uint32_t(*period)}, &Family::Pattern::name);
        } else if (head == "param" && w.size() == 5) {
            if (!field_named(w[1])) return wrong("no such parameter");
            for (const auto& column : {w[2], w[3]})
                if (!apply(ModelParams{}, function_of(column).first, 1)) return wrong("no such function");
            put(f.params, {w[1], w[2], w[3], w[4]}, &Family::Param::name);
        } else if (head == "require" && w.size() == 4) {
            const auto form = form_named(w[1]);
            if (!form) return wrong("no such form");
            put(f.requirements, {*form, w[2], w[3]}, &Family::Requirement::key);
        } else if (head == "tensor" && w.size() >= 6) {
            Family::Tensor t{w[1], w[2], w[3], w[4], w[5], false, false, false};
            for (std::size_t i = 6; i < w.size(); i++) {
                if (w[i] != "rope" && w[i] != "untied" && w[i] != "plus_one")
                    return wrong("marks are: rope untied plus_one");
                (w[i] == "rope" ? t.rope : w[i] == "untied" ? t.untied : t.plus_one) = true;
            }
            for (const auto& size : {t.rows, t.cols, slice_of(t.gguf).second, slice_of(t.hugging_face).second})
                if (!sum_named(ModelParams{}, size)) return wrong("no such size");
            put(f.tensors, std::move(t), &Family::Tensor::name);
        } else if (head == "without" && w.size() == 2) {
            const auto gone = std::erase_if(f.tensors, [&](const auto& t) { return t.name == w[1]; }) +
                              std::erase_if(f.requirements, [&](const auto& r) { return r.key == w[1]; });
            if (gone == 0) return wrong("no such tensor or requirement");
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
    // Layers lie together whatever order the tables name their tensors in.
    const auto a_layers = [](const Family::Tensor& t) { return t.name.find('*') != std::string::npos; };
    const auto first = std::find_if(f.tensors.begin(), f.tensors.end(), a_layers);
    std::stable_partition(first, f.tensors.end(), a_layers);
    return f;
}

Result<Family> find_family(Form form, const std::string& architecture) {
    std::string known;
    for (const auto text : family_texts()) {
        Family f = TRY(parse_family(text));
        const auto& names = form == Form::gguf ? f.gguf : f.hugging_face;
        if (std::find(names.begin(), names.end(), architecture) != names.end()) {
            const auto name_keys = [&](std::string& keys) {
                for (std::size_t at; (at = keys.find("*.")) != keys.npos;) keys.replace(at, 1, architecture);
            };
            for (auto& param : f.params) name_keys(param.gguf);
            for (auto& pattern : f.patterns) name_keys(pattern.gguf);
            for (auto& r : f.requirements) name_keys(r.key);
            return f;
        }
        if (form == Form::llama2c && !f.llama2c.empty()) return f;
        if (!names.empty()) known += " " + names[0];
    }
    return Error::make(Code::not_supported, "architecture \"%s\" is not supported; this slmpack imports:%.300s",
                       shown(architecture).c_str(), known.c_str());
}

Result<Family> family_named(const std::string& name) {
    for (const auto text : family_texts())
        if (Family f = TRY(parse_family(text)); f.name == name) return f;
    return Error::make(Code::not_supported, "this slmpack knows no family \"%s\": use the one that made the image",
                       shown(name).c_str());
}

std::optional<std::uint32_t> size_named(const ModelParams& p, std::string_view name) {
    if (name == "q") return p.heads * p.head_dim;
    if (name == "kv") return p.kv_heads * p.head_dim;
    if (const Field* f = field_named(name); f && f->size) return p.*f->size;
    if (const auto times = name.find('*'); times != name.npos) {
        const auto a = size_named(p, name.substr(0, times)), b = size_named(p, name.substr(times + 1));
        return a && b ? std::optional(*a * *b) : std::nullopt;
    }
    if (const auto v = parse_number(name)) return std::uint32_t(*v);
    return std::nullopt;
}

namespace {

// Bits of the layers that have a property.
Result<void> fill_pattern(const Family::Pattern& pattern, const std::vector<double>& given, const std::string& keys,
                          ModelParams& p) {
    auto& bits = pattern.name == "sliding" ? p.sliding : p.no_rope;
    const auto set = [&](std::uint32_t i) { bits[i / 8] |= std::uint8_t(1u << i % 8); };
    if (given.size() > 1) {  // a flag a layer
        if (given.size() < p.layers)
            return Error::make(Code::model_format, "key %s has %zu entries for %u layers", keys.c_str(), given.size(),
                               p.layers);
        for (std::uint32_t i = 0; i < p.layers; i++)
            if ((given[i] != 0) == (pattern.name == "sliding")) set(i);  // no_rope lists the layers that rotate
        return {};
    }
    const double period = given.empty() ? pattern.period : given[0];
    if (!(period >= 0 && period <= image::max_layers) || period != std::floor(period))
        return Error::make(Code::model_format, "key %s is %g: not a number of layers", keys.c_str(), period);
    for (std::uint32_t i = 0; i < p.layers; i++) {
        const bool last = period > 0 && (i + 1) % std::uint32_t(period) == 0;
        if (last != (pattern.name == "sliding")) set(i);
    }
    return {};
}

}  // namespace

Result<ModelParams> fill_params(const Family& family, Form form, const NumbersOf& numbers,
                                std::uint32_t embedding_rows) {
    ModelParams p{};
    p.embed_scale = p.residual_scale = p.logit_scale = 1;
    if (family.gelu) p.flags |= image::flag_gelu;
    if (family.encoder) p.flags |= image::flag_encoder;
    std::snprintf(p.family, sizeof p.family, "%s", family.name.c_str());
    for (const auto& param : family.params) {
        const auto [function, keys] = function_of(form == Form::gguf ? param.gguf : param.hugging_face);
        std::optional<double> v;
        if (keys != "-")
            if (const auto given = TRY(numbers(keys)); !given.empty()) {
                for (const double each : given)
                    if (each != given[0])
                        return Error::make(Code::not_supported, "key %s differs from layer to layer", keys.c_str());
                v = apply(p, function, given[0]);
            }
        const bool given = v.has_value();
        if (!given && param.absent != "error") v = default_value(p, param.absent, embedding_rows);
        if (!v)
            return Error::make(Code::model_format, "key \"%s\" is missing: without it the model's %s is unknown",
                               keys.c_str(), param.name.c_str());
        const Field* field = field_named(param.name);
        if (field->size || field->flag) {
            if (!(*v >= field->least && *v <= field->most) || *v != std::floor(*v))
                return Error::make(Code::model_format, "%s%s is %.10g: not a whole number from %u to %u",
                                   given ? "key " : "", given ? keys.c_str() : param.name.c_str(), *v, field->least,
                                   field->most);
            if (field->flag != 0)
                p.flags |= *v != 0 ? field->flag : 0;
            else
                p.*field->size = std::uint32_t(*v);
        } else {
            if (!(*v >= 0 && *v <= 1e12))
                return Error::make(Code::model_format, "key %s is %g: not a number from 0 to 1e12", keys.c_str(), *v);
            p.*field->real = float(*v);
        }
    }
    if (auto r = check_params(p); !r) return r.error();
    for (const auto& pattern : family.patterns) {
        const std::string& keys = form == Form::gguf ? pattern.gguf : pattern.hugging_face;
        std::vector<double> given;
        if (keys != "-") given = TRY(numbers(keys));
        if (auto r = fill_pattern(pattern, given, keys, p); !r) return r.error();
    }
    if (p.window == 0 || p.window >= p.context) {  // every layer sees everything
        p.window = 0;
        if (p.rope_theta_local == 0) std::fill_n(p.sliding, sizeof p.sliding, std::uint8_t{0});
    }
    return p;
}

Result<void> check_params(const ModelParams& p) {
    for (const auto& f : fields)
        if (f.size && (p.*f.size < f.least || p.*f.size > f.most))
            return Error::make(Code::model_format, "the model's %s is %u: not from %u to %u", f.name, p.*f.size,
                               f.least, f.most);
    if (p.heads % p.kv_heads != 0)
        return Error::make(Code::model_format, "%u heads cannot share %u key-value heads evenly", p.heads, p.kv_heads);
    if ((p.experts == 0) != (p.experts_used == 0) || p.experts_used > p.experts)
        return Error::make(Code::model_format, "a token goes to %u of %u experts", p.experts_used, p.experts);
    if ((p.flags & image::flag_encoder) != 0) return {};
    if (p.rope_dims == 0 || p.rope_dims % 2 != 0 || p.rope_dims > p.head_dim)
        return Error::make(Code::model_format, "%u rotated dimensions: must be even, 2 to the head's %u", p.rope_dims,
                           p.head_dim);
    if (!(p.rope_theta > 0))
        return Error::make(Code::model_format, "RoPE base %g is not positive", double(p.rope_theta));
    return {};
}

std::vector<Expected> expected_tensors(const Family& family, Form form, const ModelParams& p) {
    std::vector<Expected> all;
    const bool tied = p.flags & image::flag_tied_output;
    const auto add = [&](const Family::Tensor& t, std::uint32_t layer) {
        // llama2.c has no names: its reader uses ours.
        const auto [source, first_row] = slice_of(form == Form::hugging_face ? t.hugging_face
                                                  : form == Form::gguf       ? t.gguf
                                                                             : t.name);
        const bool experts = t.name.ends_with("_exps");
        all.push_back({with_layer(t.name, layer), with_layer(source, layer), *sum_named(p, first_row),
                       *size_named(p, t.rows), *size_named(p, t.cols), t.rope, t.plus_one && form == Form::hugging_face,
                       experts ? p.experts : 1});
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

std::string Expected::source_of(std::uint32_t part) const {
    std::string one = source;
    if (const auto at = one.find('%'); at != one.npos) one.replace(at, 1, std::to_string(part));
    return one;
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
    // "-00001-of-00003": a part of a split file.
    if (const auto at = name.rfind("-of-"); at != name.npos && at > 6 && at + 9 == name.size() && name[at - 6] == '-' &&
                                            name.find_first_not_of("0123456789", at - 5) == at &&
                                            name.find_first_not_of("0123456789", at + 4) == name.npos)
        name.resize(at - 6);
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
