// inspect, verify, cat: what is in an image.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <optional>

#include "base/bytes.h"
#include "commands.h"
#include "engine/adapter.h"
#include "evaluation.h"
#include "golden.h"
#include "image/check.h"
#include "image/golden.h"
#include "image/image.h"
#include "image/layout.h"
#include "image/signature.h"
#include "image/stored.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include "toolchain/slmpack/image/import.h"
#include "toolchain/slmpack/image/verify.h"

namespace slmd::pack {
namespace {

using namespace image;
using Number = unsigned long long;

// Bytes of the file that hold [offset, offset + size) of the raw form: whole frames, since streams do not share them.
std::uint64_t stored_bytes(const StoredFile& file, std::uint64_t offset, std::uint64_t size) {
    std::uint64_t sum = 0;
    if (size == 0) return 0;
    for (std::uint32_t i = file.frame_at(offset), end = file.frame_at(offset + size - 1); i <= end; i++)
        sum += file.frames()[i].stored;
    return sum;
}

std::string signed_text(const RawHeader& header) {
    if (is_signed(header)) return std::string("signed by key ") + name_of(signer(header)).hex;
    return has_hashes(header) ? "not signed" : "not signed, without hashes (import it again to sign it)";
}

// Tokenizer and chat template, by the code that will run on them, and that they fit the model.
void verify_text(const std::string& path, std::vector<std::string>& problems) {
    const auto image = Image::open(path.c_str(), {});
    if (!image) return problems.push_back(image.error().text);
    const auto tokens = image.value().section(SectionId::tokenizer), chat = image.value().section(SectionId::chat);
    if (!tokens.empty()) {
        const auto tokenizer = text::Tokenizer::open(tokens);
        if (!tokenizer)
            problems.push_back(path + ": section tokenizer: " + tokenizer.error().text);
        else if (static_cast<std::uint32_t>(tokenizer.value().vocab()) > image.value().params().vocab)
            problems.push_back(path + ": section tokenizer: " + std::to_string(tokenizer.value().vocab()) +
                               " tokens, the model has " + std::to_string(image.value().params().vocab));
    }
    if (const auto opened = text::ChatTemplate::open(chat); !chat.empty() && !opened)
        problems.push_back(path + ": section chat: " + opened.error().text);
}

// That the engine would take an adapter for a model of these params, which its base's are a copy of.
void verify_adapter(const std::string& path, std::vector<std::string>& problems) {
    const auto image = Image::open(path.c_str(), {});
    if (!image) return problems.push_back(image.error().text);
    if (!is_adapter(image.value().header())) return;
    if (const auto bound = engine::bind(image.value(), image.value().params(), nullptr); !bound)
        problems.push_back(path + ": " + bound.error().text);
}

// Special tokens are shown, control characters as spaces.
std::string text_of(const text::Tokenizer& tokenizer, std::span<const std::byte> tokens) {
    std::string out;
    for (std::size_t i = 0; i < tokens.size(); i += sizeof(std::int32_t)) {
        const auto id = load<std::int32_t>(tokens.data() + i);
        if (id >= 0 && id < tokenizer.vocab()) out += tokenizer.piece(id, true);
    }
    for (char& c : out)
        if (static_cast<unsigned char>(c) < ' ') c = ' ';
    return out;
}

Result<void> print_golden(const std::string& path, const Image& image) {
    const Golden golden = TRY(read_golden(path.c_str(), image.section(SectionId::golden)));
    if (golden.count == 0) return {};
    const auto tokenizer = text::Tokenizer::open(image.section(SectionId::tokenizer));
    std::printf("\n%-24s %12s %12s  %s\n", "golden prompt", "tokens", "answer", "SHA-256 of the answer");
    for (std::uint32_t i = 0; i < golden.count; i++) {
        const Golden::Prompt& p = golden.prompts[i];
        std::printf("%-24u %12zu %12u  %s\n", i + 1, p.tokens.size() / sizeof(std::int32_t), p.answer,
                    hex(p.sha256).c_str());
        if (tokenizer) std::printf("  %s\n", text_of(tokenizer.value(), p.tokens).c_str());
    }
    return {};
}

}  // namespace

int run_inspect(const std::string& path) {
    const auto opened = Image::open(path.c_str(), {.threads = 2});
    if (!opened) return fail(opened.error().text);
    const Image& image = opened.value();
    const Sizes& sizes = image.sizes();
    const ModelParams& p = image.params();
    std::optional<StoredFile> file;
    if (sizes.compressed) {
        auto stored = StoredFile::open(path.c_str(), ::open(path.c_str(), O_RDONLY | O_CLOEXEC), sizes.file);
        if (!stored) return fail(stored.error().text);
        file.emplace(std::move(*stored));
    }
    const auto in_file = [&](std::uint64_t offset, std::uint64_t size) {
        return file ? stored_bytes(*file, offset, size) : size;
    };

    std::printf("%s: %s image, %llu bytes, %llu when open", path.c_str(), sizes.compressed ? "stored" : "raw",
                static_cast<Number>(sizes.file), static_cast<Number>(sizes.raw));
    if (sizes.compressed) std::printf(", %llu frames", static_cast<Number>(sizes.frames));
    const bool adapter = is_adapter(image.header());
    std::printf("\n\n%-9s %s, family %s\n", adapter ? "adapter" : "model", p.name, p.family);
    if (adapter) {
        Sha256 index;
        std::memcpy(index.data(), image.header().base.index_sha256, index.size());
        std::printf("base      %s, index %s\n", image.header().base.name, hex(index).c_str());
    }
    std::printf("layers    %u, dim %u, hidden %u, heads %u (%u KV) of %u, vocabulary %u, context %u\n", p.layers, p.dim,
                p.hidden, p.heads, p.kv_heads, p.head_dim, p.vocab, p.context);
    std::printf("details   norm eps %g, RoPE theta %g over %u dimensions, output %s\n", static_cast<double>(p.norm_eps),
                static_cast<double>(p.rope_theta), p.rope_dims,
                (p.flags & flag_tied_output) != 0 ? "tied to the embedding" : "of its own");
    if (p.experts != 0)
        std::printf("          %u experts a layer, %u of them for a token, their weights the softmax among %s\n",
                    p.experts, p.experts_used, (p.flags & flag_expert_share) != 0 ? "those" : "all");
    std::uint32_t sliding = 0, still = 0;
    for (std::uint32_t i = 0; i < p.layers; i++) {
        sliding += layer_bit(p.sliding, i);
        still += layer_bit(p.no_rope, i);
    }
    std::printf("          gate %s", (p.flags & flag_gelu) != 0 ? "GELU" : "SiLU");
    if (p.window != 0) std::printf(", %u layers slide over %u positions", sliding, p.window);
    if (p.rope_theta_local != 0) std::printf(" with RoPE theta %g", static_cast<double>(p.rope_theta_local));
    if (still != 0) std::printf(", %u layers do not rotate", still);
    const auto factor = [](const char* name, float value, float unused) {
        if (value != unused) std::printf(", %s %g", name, static_cast<double>(value));
    };
    factor("RoPE scale", p.rope_scale, 0);
    factor("attention scale", p.attn_scale, 0);
    factor("attention soft cap", p.attn_softcap, 0);
    factor("logit soft cap", p.final_softcap, 0);
    factor("embedding scale", p.embed_scale, 1);
    factor("residual scale", p.residual_scale, 1);
    factor("logit scale", p.logit_scale, 1);
    std::printf("\nsignature %s\n\n", signed_text(image.header()).c_str());

    const RawHeader& header = image.header();
    std::printf("%-24s %12s %12s %12s %7s\n", "section", "offset", "raw", "in file", "ratio");
    for (std::uint32_t i = 0; i < header.section_count; i++) {
        const Section& s = header.sections[i];
        const std::uint64_t stored = in_file(s.offset, s.size);
        std::printf("%-24s %12llu %12llu %12llu %7.3f\n", section_name(s.id), static_cast<Number>(s.offset),
                    static_cast<Number>(s.size), static_cast<Number>(stored),
                    static_cast<double>(stored) / static_cast<double>(s.size));
    }

    std::printf("\n%-24s %-4s %15s %12s %12s %-9s %7s %7s\n", "tensor", "kind", "shape", "raw", "in file", "memory",
                "codes", "scales");
    for (const TensorEntry& t : image.tensors()) {
        const std::uint64_t codes = in_file(t.codes, t.codes_size), scales = in_file(t.scales, t.scales_size),
                            steps = in_file(t.steps, t.steps_size);
        char shape[32];
        std::snprintf(shape, sizeof shape, "%u x %u", t.rows, t.cols);
        std::printf("%-24s %-4s %15s %12llu %12llu %-9s %7.3f", t.name, kind_name(t.kind), shape,
                    static_cast<Number>(t.codes_size + t.scales_size + t.steps_size),
                    static_cast<Number>(codes + scales + steps),
                    t.residency == residency_on_demand ? "on demand" : "resident",
                    t.kind == Kind::i6  // of which the high bits are
                        ? static_cast<double>(codes + steps) / static_cast<double>(t.codes_size + t.steps_size)
                        : static_cast<double>(codes) / static_cast<double>(t.codes_size));
        if (t.scales_size != 0) std::printf(" %7.3f", static_cast<double>(scales) / static_cast<double>(t.scales_size));
        if (t.kind == Kind::i4) {
            std::printf("  book");
            for (const std::int8_t level : t.book) std::printf(" %d", level);
        }
        std::printf("\n");
    }
    if (const auto ok = print_golden(path, image); !ok) return fail(ok.error().text);
    const auto text = image.section(SectionId::provenance);
    print_evaluations(text);
    std::printf("\nprovenance\n%.*s\n", static_cast<int>(text.size()), reinterpret_cast<const char*>(text.data()));
    return 0;
}

int run_verify(const std::string& path, const std::vector<std::string>& key_files, bool golden) {
    std::vector<PublicKey> keys;
    for (const std::string& file : key_files) {
        const auto key = read_public_key(file.c_str());
        if (!key) return fail(key.error().text);
        keys.push_back(key.value());
    }
    auto problems = verify_image(path, progress_line("verifying " + path), keys);
    end_progress();
    if (problems.empty()) verify_text(path, problems);
    if (problems.empty()) verify_adapter(path, problems);
    int asked = 0;
    if (problems.empty() && golden) {
        const auto checked = check_golden(path);
        if (checked)
            asked = checked.value();
        else
            problems.push_back(std::string(checked.error().text) +
                               (checked.error().code == Code::model_memory ? " (--no-golden checks the rest)" : ""));
    }
    for (const std::string& problem : problems) std::fprintf(stderr, "slmpack: %s\n", problem.c_str());
    if (!problems.empty()) return 1;
    const auto image = Image::open_index(path.c_str());
    if (!image) return fail(image.error().text);
    std::printf("%s: good, %s", path.c_str(), signed_text(image.value().header()).c_str());
    if (keys.empty() && is_signed(image.value().header())) std::printf(" (--key KEY.pub checks that)");
    if (asked != 0) std::printf("; %d golden prompts answered as before", asked);
    std::printf("\n");
    return 0;
}

int run_cat(const std::string& path) {
    const auto image = Image::open(path.c_str(), {.threads = 2});
    if (!image) return fail(image.error().text);
    auto bytes = image.value().raw();
    while (!bytes.empty()) {
        const ssize_t n = write(STDOUT_FILENO, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return fail(std::string("cannot write to standard output: ") + strerror(errno));
        bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return 0;
}

}  // namespace slmd::pack
