// Which entries of a vocabulary stay, and the folder's files that name or number them.
#include "vocabulary.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "base/file.h"
#include "prune.h"
#include "text/section.h"
#include "toolchain/slmpack/source/safetensors.h"
#include "toolchain/slmpack/tokenizer/alphabet.h"

namespace slmd::pack {
namespace {

using Json = nlohmann::json;  // in the order of keys: a vocabulary that keeps another takes the square of its size
using Id = std::uint32_t;
constexpr Id none = ~Id{0};

std::pair<std::string_view, std::string_view> parts(std::string_view merge) {
    const std::size_t cut = merge.find(' ', 1);  // a token may be a space
    if (cut == merge.npos) return {merge, {}};
    return {merge.substr(0, cut), merge.substr(cut + 1)};
}

// The tokens that byte-pair encoding goes through on its way to one token. Merges that stay while all of their kind do
// are made in the same order as before: a text whose tokens are kept is cut as it was.
class Derivation {
  public:
    explicit Derivation(const TokenizerSpec& spec) : spec_(spec) {
        for (std::size_t i = 0; i < spec.tokens.size(); i++) ids_.emplace(spec.tokens[i], static_cast<Id>(i));
        for (std::size_t i = 0; i < spec.merges.size(); i++) {
            const auto [left, right] = parts(spec.merges[i]);
            const Id product = find(std::string(left) + std::string(right));
            products_.push_back(product);
            if (const Id a = find(left), b = find(right); a != none && b != none && product != none)
                ranks_.emplace(std::pair(a, b), static_cast<Id>(i));
        }
    }

    Id find(std::string_view token) const {
        const auto i = ids_.find(std::string(token));
        return i == ids_.end() ? none : i->second;
    }
    // Of a merge, by rank; none when there is no such token.
    Id product(std::size_t rank) const { return products_[rank]; }

    // Ascending, itself among them.
    std::vector<Id> of(Id token) const {
        std::vector<Id> all = {token}, now;
        const std::string& text = spec_.tokens[token];
        for (std::size_t at = 0; at < text.size();) {  // its characters
            std::size_t end = at + 1;
            while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) end++;
            const Id character = find(std::string_view(text).substr(at, end - at));
            if (character == none) return all;  // made of nothing smaller
            now.push_back(character);
            at = end;
        }
        all.insert(all.end(), now.begin(), now.end());
        while (now.size() > 1) {
            Id best = none;
            std::size_t where = 0;
            for (std::size_t i = 0; i + 1 < now.size(); i++)
                if (const auto r = ranks_.find({now[i], now[i + 1]}); r != ranks_.end() && r->second < best)
                    best = r->second, where = i;
            if (best == none) break;
            now[where] = product(best);
            now.erase(now.begin() + static_cast<std::ptrdiff_t>(where) + 1);
            all.push_back(now[where]);
        }
        std::sort(all.begin(), all.end());
        all.erase(std::unique(all.begin(), all.end()), all.end());
        return all;
    }

  private:
    const TokenizerSpec& spec_;
    std::unordered_map<std::string, Id> ids_;
    std::map<std::pair<Id, Id>, Id> ranks_;
    std::vector<Id> products_;
};

// Placeholders for what others may train.
bool is_reserved(std::string_view token) {
    return token.starts_with("<unused") || token.starts_with("<|reserved_special_token");
}

using NewId = std::function<std::optional<Id>(std::uint64_t)>;

// A number, or a list of numbers. A token that is gone: null, and no member of a list.
template <class AnyJson>
AnyJson renumbered(const AnyJson& v, const NewId& now) {
    if (!v.is_array()) {
        if (!v.is_number_unsigned()) return v;
        const auto to = now(v.template get<std::uint64_t>());
        return to ? AnyJson(*to) : AnyJson(nullptr);
    }
    AnyJson list = AnyJson::array();
    for (const AnyJson& id : v)
        if (AnyJson to = renumbered(id, now); !to.is_null()) list.push_back(std::move(to));
    return list;
}

NewId new_ids(std::span<const std::uint32_t> kept) {
    return [kept](std::uint64_t id) -> std::optional<Id> {
        const auto i = std::lower_bound(kept.begin(), kept.end(), id);
        if (i == kept.end() || *i != id) return std::nullopt;
        return static_cast<Id>(i - kept.begin());
    };
}

// What stands under keys that name tokens. No such file nests as deep as `depth`.
template <class AnyJson>
void renumber(AnyJson& v, bool (*names_tokens)(const std::string& key), const NewId& now, int depth = 32) {
    if (!v.is_structured() || depth == 0) return;
    for (auto& [key, value] : v.items())
        if (v.is_object() && names_tokens(key))
            value = renumbered(value, now);
        else
            renumber(value, names_tokens, now, depth - 1);
}

bool is_token_id(const std::string& key) { return key.ends_with("token_id"); }

}  // namespace

Result<std::vector<std::uint32_t>> choose_tokens(const TokenizerSpec& spec, std::span<const std::int32_t> used,
                                                 std::uint32_t count) {
    const std::size_t all = spec.tokens.size();
    if (spec.merges.empty() || spec.model == TokenizerSpec::Model::wordpiece)
        return Error::make(Code::not_supported, "its tokenizer has no merges: its vocabulary cannot be pruned");
    if (count > all)
        return Error::make(Code::incorrect_parameters, "%u entries are to be left: the vocabulary has %zu", count, all);
    const Derivation derivation(spec);
    std::vector<bool> kept(all);
    std::size_t left = 0;
    const auto keep = [&](Id id) {
        if (kept[id]) return;  // then what it is made of is, too
        for (const Id each : derivation.of(id))
            if (!kept[each]) kept[each] = true, left++;
    };
    const auto keep_special = [&](std::int32_t id) {
        if (id >= 0 && static_cast<std::size_t>(id) < all && !kept[static_cast<std::size_t>(id)])
            kept[static_cast<std::size_t>(id)] = true, left++;
    };
    for (std::size_t i = 0; i < all; i++) {
        const bool special = !spec.types.empty() && spec.types[i] != text::type_normal;
        const auto bytes =
            spec.model == TokenizerSpec::Model::bpe ? decode_byte_alphabet(spec.tokens[i]) : std::nullopt;
        if ((special && !is_reserved(spec.tokens[i])) || (bytes && bytes->size() == 1))
            keep_special(static_cast<std::int32_t>(i));
    }
    keep_special(spec.bos), keep_special(spec.eos), keep_special(spec.unk);
    for (const std::int32_t id : spec.ends) keep_special(id);
    for (const std::int32_t id : used) {
        if (id < 0 || static_cast<std::size_t>(id) >= all)
            return Error::make(Code::incorrect_parameters, "token %d is none of the vocabulary", id);
        if (spec.types.empty() || spec.types[static_cast<std::size_t>(id)] == text::type_normal)
            keep(static_cast<Id>(id));
        else
            keep_special(id);
    }
    if (left > count)
        return Error::make(Code::incorrect_parameters,
                           "%u entries are too few: the text, single bytes and special tokens need %zu", count, left);
    // Of the others those that were merged first, which are the most frequent of the text that the tokenizer was made
    // from.
    for (std::size_t rank = 0; rank < spec.merges.size() && left < count; rank++) {
        const Id id = derivation.product(rank);
        if (id == none || kept[id]) continue;
        const std::vector<Id> more = derivation.of(id);
        const auto missing = std::count_if(more.begin(), more.end(), [&](Id each) { return !kept[each]; });
        if (left + static_cast<std::size_t>(missing) <= count) keep(id);
    }
    std::vector<Id> ids;
    for (std::size_t i = 0; i < all; i++)
        if (kept[i]) ids.push_back(static_cast<Id>(i));
    return ids;
}

bool names_vocabulary(const std::string& file) {
    static constexpr std::string_view names[] = {
        "tokenizer.json", "tokenizer_config.json", "generation_config.json", "added_tokens.json", "vocab.json",
        "merges.txt",     "tokenizer.model"};
    return std::find(std::begin(names), std::end(names), file) != std::end(names);
}

void renumber_config(nlohmann::ordered_json& config, std::span<const std::uint32_t> kept) {
    renumber(config, is_token_id, new_ids(kept));
}

Result<void> write_vocabulary(const std::string& from, std::span<const std::uint32_t> kept, const std::string& to) {
    namespace fs = std::filesystem;
    constexpr std::size_t largest = 256u << 20;  // as of a tokenizer that is read
    const NewId now = new_ids(kept);
    const auto rewrite = [&](const char* name, const auto& change) -> Result<void> {
        if (!fs::exists(fs::path(from) / name)) return {};
        const std::string text = TRY(file_text(from + "/" + name, largest));
        Json json = Json::parse(text, nullptr, false);
        if (!json.is_object()) return Error::make(Code::model_format, "%s is no JSON object", name);
        TRY(change(json));
        const std::string written = json.dump(2) + "\n";
        return write_file((to + "/" + name).c_str(), std::as_bytes(std::span(written)));
    };
    TRY(rewrite("generation_config.json", [&](Json& json) -> Result<void> {
        renumber(json, is_token_id, now);
        return {};
    }));
    TRY(rewrite("tokenizer_config.json", [&](Json& json) -> Result<void> {
        if (!json.contains("added_tokens_decoder")) return {};
        Json decoder = Json::object();
        for (const auto& [id, token] : json["added_tokens_decoder"].items())
            if (const auto id_now = now(std::strtoull(id.c_str(), nullptr, 10)))
                decoder[std::to_string(*id_now)] = token;
        json["added_tokens_decoder"] = decoder;
        return {};
    }));
    if (!fs::exists(fs::path(from) / "tokenizer.json"))
        return Error::make(Code::not_supported, "%.150s has no tokenizer.json: its vocabulary cannot be pruned",
                           from.c_str());
    return rewrite("tokenizer.json", [&](Json& json) -> Result<void> {
        Json& model = json["model"];
        Json vocab = Json::object(), merges = Json::array(), added = Json::array();
        for (const auto& [token, id] : model["vocab"].items())
            if (const auto id_now = now(id.get<std::uint64_t>())) vocab[token] = *id_now;
        for (const Json& merge : model["merges"]) {
            const std::string text = merge.is_string() ? merge.get<std::string>() : std::string();
            const auto [left, right] = merge.is_string()
                                           ? parts(text)
                                           : std::pair(std::string_view(merge[0].get_ref<const std::string&>()),
                                                       std::string_view(merge[1].get_ref<const std::string&>()));
            const std::string a(left), b(right);
            if (vocab.contains(a) && vocab.contains(b) && vocab.contains(a + b)) merges.push_back(merge);
        }
        if (json.contains("added_tokens"))
            for (Json& token : json["added_tokens"])
                if (const auto id_now = now(token["id"].get<std::uint64_t>()))
                    token["id"] = *id_now, added.push_back(token);
        model["vocab"] = vocab, model["merges"] = merges, json["added_tokens"] = added;
        if (json.contains("post_processor"))
            renumber(
                json["post_processor"], [](const std::string& key) { return key == "ids"; }, now);
        return {};
    });
}

}  // namespace slmd::pack
