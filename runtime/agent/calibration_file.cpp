#include "agent/calibration_file.h"

#include <errno.h>
#include <sys/stat.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <string>

#include "base/file.h"
#include "base/utf8.h"
#include "hal/toml.h"

namespace slmd::agent {
namespace {

constexpr off_t max_bytes = 64 << 10;
constexpr char keys[] =
    "agent_sha256, model, adapter_sha256, feature, examples, accuracy, ece, brier, knots, deciles, shares";

struct Reader : hal::TomlFile {
    Calibration& c;

    Reader(const char* file, Calibration& out) : TomlFile{file}, c(out) {}

    Result<void> text(const toml::node& node, const char* what, char* out, std::size_t size) const {
        const auto* s = node.as_string();
        if (s == nullptr || s->get().empty() || s->get().size() >= size ||
            std::strlen(s->get().c_str()) != s->get().size())
            return at(node, what);
        std::memcpy(out, s->get().c_str(), s->get().size() + 1);
        return {};
    }
    // From 0 to 1, as all numbers here but one.
    Result<float> part(const toml::node& node, const char* what) const {
        const auto v = node.is_number() ? node.value<double>() : std::nullopt;
        if (!v || !(*v >= 0 && *v <= 1)) return at(node, what);
        return static_cast<float>(*v);
    }
    Result<void> parts(const toml::node& node, const char* what, std::span<float> out) const {
        const auto* list = node.as_array();
        if (list == nullptr || list->size() != out.size()) return at(node, what);
        for (std::size_t i = 0; i < out.size(); i++) out[i] = TRY(part(*list->get(i), what));
        return {};
    }
    Result<void> hash(const toml::node& node, const char* what, char (&out)[65]) const {
        TRY(text(node, what, out, sizeof out));
        if (std::strspn(out, "0123456789abcdef") != sizeof out - 1) return at(node, what);
        return {};
    }
    Result<void> feature(const toml::node& node) const {
        const auto* s = node.as_string();
        for (int i = 0; s != nullptr && i < feature_count; i++)
            if (s->get() == feature_name(static_cast<Feature>(i))) {
                c.feature = static_cast<Feature>(i);
                return {};
            }
        return at(node, "feature is \"mean\", \"min\", \"margin\" or \"entropy\"");
    }
    Result<void> examples(const toml::node& node) const {
        const auto* n = node.as_integer();
        if (n == nullptr || n->get() < Calibration::min_examples || n->get() > Calibration::max_examples)
            return at(node, "examples is a whole number from 20 to 1000000");
        c.examples = static_cast<int>(n->get());
        return {};
    }
    Result<void> before_after(const toml::node& node, const char* what, float& before, float& after) const {
        float both[2];
        TRY(parts(node, what, both));
        before = both[0];
        after = both[1];
        return {};
    }
    Result<void> knots(const toml::node& node) const {
        const auto* list = node.as_array();
        if (list == nullptr || list->empty() || list->size() > Calibration::max_knots)
            return at(node, "knots is a list of 1 to 32: [[score, probability], ...]");
        for (const toml::node& n : *list) {
            float knot[2];
            TRY(parts(n, "a knot is [score, probability], both from 0 to 1", knot));
            if (!(knot[1] > 0 && knot[1] < 1)) return at(n, "a knot's probability is above 0 and below 1");
            if (c.knot_count > 0 && !(knot[0] > c.knots[c.knot_count - 1].score))
                return at(n, "the scores of the knots must ascend");
            if (c.knot_count > 0 && knot[1] < c.knots[c.knot_count - 1].probability)
                return at(n, "the probabilities of the knots must not fall");
            c.knots[c.knot_count++] = {knot[0], knot[1]};
        }
        return {};
    }
    Result<void> deciles(const toml::node& node) const {
        TRY(parts(node, "deciles is a list of 9 scores from 0 to 1", c.deciles));
        for (std::size_t i = 1; i < std::size(c.deciles); i++)
            if (c.deciles[i] < c.deciles[i - 1]) return at(node, "deciles must not fall");
        return {};
    }
    Result<void> shares(const toml::node& node) const {
        TRY(parts(node, "shares is a list of 10 numbers from 0 to 1", c.shares));
        double sum = 0;
        for (const float s : c.shares) sum += static_cast<double>(s);
        if (std::abs(sum - 1) > 1e-4) return at(node, "the sum of the shares is 1");
        return {};
    }
    Result<void> root(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "agent_sha256")
                TRY(hash(node, "agent_sha256 is 64 digits and letters from a to f", c.agent_sha256));
            else if (k == "adapter_sha256")
                TRY(hash(node, "adapter_sha256 is 64 digits and letters from a to f", c.adapter_sha256));
            else if (k == "model")
                TRY(text(node, "model is a name in quotes of at most 63 bytes", c.model, sizeof c.model));
            else if (k == "feature")
                TRY(feature(node));
            else if (k == "examples")
                TRY(examples(node));
            else if (k == "accuracy")
                c.accuracy = TRY(part(node, "accuracy is from 0 to 1"));
            else if (k == "ece")
                TRY(before_after(node, "ece is [before, after], both from 0 to 1", c.before.ece, c.after.ece));
            else if (k == "brier")
                TRY(before_after(node, "brier is [before, after], both from 0 to 1", c.before.brier, c.after.brier));
            else if (k == "knots")
                TRY(knots(node));
            else if (k == "deciles")
                TRY(deciles(node));
            else if (k == "shares")
                TRY(shares(node));
            else
                return unknown(key, keys);
        }
        for (const char* key :
             {"agent_sha256", "model", "feature", "examples", "accuracy", "ece", "brier", "knots", "deciles", "shares"})
            if (!t.contains(key))
                return Error::make(Code::incorrect_parameters,
                                   "%s:1: there is no \"%s\": slmctl calibrate writes all that must stand here", path,
                                   key);
        return {};
    }
};

// The shortest digits that are read back as the same number.
std::string shown(float number) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

std::string shown(std::span<const float> numbers) {
    std::string list = "[";
    for (const float n : numbers) list += (list.size() > 1 ? ", " : "") + shown(n);
    return list + "]";
}

std::string quoted(const char* text) {
    std::string r = "\"";
    for (; *text != 0; text++) {
        const auto c = static_cast<unsigned char>(*text);
        char escape[8];
        std::snprintf(escape, sizeof escape, "\\u%04X", c);
        if (c == '"' || c == '\\' || c < ' ' || c == 0x7F)
            r += escape;
        else
            r += *text;
    }
    return r + "\"";
}

}  // namespace

Result<void> path_beside(const char* agent_path, const char* ending, std::span<char> out) {
    const std::string_view path = agent_path;
    constexpr std::string_view toml = ".toml";
    if (!path.ends_with(toml) || path.size() == toml.size() || path[path.size() - toml.size() - 1] == '/')
        return Error::make(Code::incorrect_parameters, "%s: an agent's file is NAME.toml", agent_path);
    const auto size = static_cast<std::size_t>(std::snprintf(
        out.data(), out.size(), "%.*s%s", static_cast<int>(path.size() - toml.size()), agent_path, ending));
    if (size >= out.size()) return Error::make(Code::text_too_long, "%.100s...: the path is too long", agent_path);
    return {};
}

Result<void> read_calibration(const char* path, Calibration& out) {
    struct stat st;
    if (stat(path, &st) != 0)
        return Error::make(errno == ENOENT ? Code::not_found : Code::storage_failure, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size > max_bytes)
        return Error::make(Code::incorrect_parameters, "%s: no file of at most 64 KiB", path);
    Calibration calibration;
    const Reader reader(path, calibration);
    const toml::table table = TRY(reader.parse());
    TRY(reader.root(table));
    out = calibration;
    return {};
}

Result<void> write_calibration(const char* path, const Calibration& c) {
    if (!utf8_valid(c.model)) return Error::make(Code::invalid_characters, "%s: the model's name is not UTF-8", path);
    std::string text =
        "# Made by slmctl calibrate: how often answers of this agent were right, by how sure the model was.\n";
    text += "agent_sha256 = " + quoted(c.agent_sha256) + "\n";
    text += "model = " + quoted(c.model) + "\n";
    if (c.adapter_sha256[0] != 0) text += "adapter_sha256 = " + quoted(c.adapter_sha256) + "\n";
    text += std::string("feature = \"") + feature_name(c.feature) + "\"\n";
    text += "examples = " + std::to_string(c.examples) + "\n";
    text += "accuracy = " + shown(c.accuracy) + "\n";
    text += "# before, after\n";
    text += "ece = " + shown(std::array{c.before.ece, c.after.ece}) + "\n";
    text += "brier = " + shown(std::array{c.before.brier, c.after.brier}) + "\n";
    text += "# score, probability\nknots = [\n";
    for (const Calibration::Knot& k : std::span(c.knots).first(static_cast<std::size_t>(c.knot_count)))
        text += "    " + shown(std::array{k.score, k.probability}) + ",\n";
    text += "]\n";
    text += "deciles = " + shown(c.deciles) + "\n";
    text += "shares = " + shown(c.shares) + "\n";
    return write_file(path, std::as_bytes(std::span(text)));
}

}  // namespace slmd::agent
