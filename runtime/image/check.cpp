#include "image/check.h"

#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "image/layout.h"

namespace slmd::image {
namespace {

constexpr std::size_t max_sections = sizeof(RawHeader::sections) / sizeof(Section);

bool zero(std::span<const std::uint8_t> bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t b) { return b == 0; });
}

Result<void> check_signature(const char* path, const Signature& s) {
    if (s.type > SignatureType::ecdsa_p256_sha256)
        return Error::make(Code::model_format,
                           "%s: signed in a way that this program does not know (%" PRIu32 "): update slmd", path,
                           static_cast<std::uint32_t>(s.type));
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(&s);
    const std::size_t used = s.type == SignatureType::none ? sizeof s.type : offsetof(Signature, zero);
    if (!zero({bytes + used, sizeof s - used}))
        return Error::make(Code::model_format, "%s: its signature is malformed; copy the file again", path);
    return {};
}

// index has index_sha256, and tensors one hash each.
bool has_hash(const Section& s) {
    const auto id = static_cast<SectionId>(s.id);
    return id != SectionId::index && id != SectionId::tensors;
}

bool terminated(const char* text, std::size_t size) { return std::memchr(text, 0, size) != nullptr; }

}  // namespace

bool is_adapter(const RawHeader& header) { return !zero(header.base.index_sha256); }

bool has_hashes(const RawHeader& header) {
    return std::any_of(std::begin(header.section_sha256), std::end(header.section_sha256),
                       [](const auto& hash) { return !zero(hash); });
}

const Section* find_section(const RawHeader& header, SectionId id) {
    for (std::uint32_t i = 0; i < header.section_count && i < max_sections; i++)
        if (header.sections[i].id == static_cast<std::uint32_t>(id)) return &header.sections[i];
    return nullptr;
}

Result<void> check_header(const char* path, const RawHeader& h) {
    if (std::memcmp(h.magic, raw_magic, sizeof raw_magic) != 0)
        return Error::make(Code::model_format, "%s: no model image inside (wrong magic)", path);
    if (h.reader > reader_version)
        return Error::make(Code::model_format,
                           "%s: written for a newer reader (%" PRIu32 "; this program reads up to %" PRIu32
                           "): update slmd, or import the model again with this slmpack",
                           path, h.reader, reader_version);
    if (h.version < h.reader || h.reader == 0)
        return Error::make(Code::model_format, "%s: impossible format version %" PRIu32, path, h.version);
    if (h.section_count > max_sections || h.tensor_count == 0 || h.tensor_count > max_tensors)
        return Error::make(Code::model_format, "%s: impossible counts: %" PRIu32 " sections, %" PRIu32 " tensors", path,
                           h.section_count, h.tensor_count);
    std::uint64_t end = sizeof(RawHeader);
    std::uint32_t seen = 0;
    for (std::uint32_t i = 0; i < h.section_count; i++) {
        const Section& s = h.sections[i];
        // Unknown ids are a newer minor version's business; they must still lie right.
        if (s.id < 32 && (seen >> s.id & 1) != 0)
            return Error::make(Code::model_format, "%s: section %s occurs twice", path, section_name(s.id));
        if (s.id < 32) seen |= 1u << s.id;
        if (s.offset % section_align != 0 || s.offset < end || s.offset > h.raw_size || s.size > h.raw_size - s.offset)
            return Error::make(Code::model_format,
                               "%s: section %s at %" PRIu64 " with %" PRIu64
                               " bytes is misplaced in an image of %" PRIu64,
                               path, section_name(s.id), s.offset, s.size, h.raw_size);
        end = s.offset + s.size;
    }
    const Section* index = find_section(h, SectionId::index);
    const Section* params = find_section(h, SectionId::params);
    if (index == nullptr || index->size != h.tensor_count * sizeof(TensorEntry))
        return Error::make(Code::model_format, "%s: section index is absent or has a wrong size", path);
    if (params == nullptr || params->size != sizeof(ModelParams))
        return Error::make(Code::model_format, "%s: section params is absent or has a wrong size", path);
    if (find_section(h, SectionId::tensors) == nullptr)
        return Error::make(Code::model_format, "%s: section tensors is absent", path);
    if (!terminated(h.base.name, sizeof h.base.name))
        return Error::make(Code::model_format, "%s: its base has a name without end", path);
    TRY(check_signature(path, h.signature));
    const bool hashed = has_hashes(h);
    for (std::uint32_t i = 0; i < max_sections; i++) {
        const bool wanted = hashed && i < h.section_count && has_hash(h.sections[i]);
        if (zero(h.section_sha256[i]) == wanted)
            return Error::make(Code::model_format,
                               "%s: the hashes of its sections are not those of a whole image; copy "
                               "the file again",
                               path);
    }
    return {};
}

Result<void> check_index(const char* path, const RawHeader& h, std::span<const TensorEntry> tensors,
                         const ModelParams& params) {
    if (!terminated(params.name, sizeof params.name) || !terminated(params.family, sizeof params.family))
        return Error::make(Code::model_format, "%s: params: a name without end", path);
    if (params.experts > max_experts || params.experts_used > params.experts ||
        (params.experts != 0 && (params.layers == 0 || params.layers > max_layers)))
        return Error::make(Code::model_format, "%s: params: %" PRIu32 " of %" PRIu32 " experts in %" PRIu32 " layers",
                           path, params.experts_used, params.experts, params.layers);
    const Section& section = *find_section(h, SectionId::tensors);
    std::uint64_t end = section.offset;
    for (std::size_t i = 0; i < tensors.size(); i++) {
        const TensorEntry& t = tensors[i];
        if (!terminated(t.name, sizeof t.name) || t.name[0] == 0)
            return Error::make(Code::model_format, "%s: tensor %zu of the index has no valid name", path, i);
        for (std::size_t k = 0; k < i; k++)
            if (std::strcmp(t.name, tensors[k].name) == 0)
                return Error::make(Code::model_format, "%s: tensor %s occurs twice", path, t.name);
        if (t.kind > Kind::i6 || t.residency > 2)
            return Error::make(Code::model_format, "%s: tensor %s: unknown kind %" PRIu32 " or residency %" PRIu32,
                               path, t.name, static_cast<std::uint32_t>(t.kind), t.residency);
        if (t.residency == residency_on_demand && (params.flags & flag_tied_output) != 0 &&
            std::strcmp(t.name, "token_embd") == 0)
            return Error::make(Code::model_format, "%s: tensor %s is the output matrix, and not for decoding on demand",
                               path, t.name);
        if (t.rows == 0 || t.cols == 0 || t.rows > max_dimension || t.cols > max_dimension)
            return Error::make(Code::model_format, "%s: tensor %s: impossible shape %" PRIu32 " x %" PRIu32, path,
                               t.name, t.rows, t.cols);
        if (zero(t.sha256) == has_hashes(h))
            return Error::make(Code::model_format, "%s: tensor %s: %s", path, t.name,
                               has_hashes(h) ? "its hash is absent" : "it has a hash, and the sections have none");
        const StreamSizes want = stream_sizes(t.kind, t.rows, t.cols);
        const struct {
            const char* name;
            std::uint64_t offset, size, want;
        } streams[] = {{"codes", t.codes, t.codes_size, want.codes},
                       {"scales", t.scales, t.scales_size, want.scales},
                       {t.kind == Kind::i6 ? "high bits" : "steps", t.steps, t.steps_size, want.steps}};
        for (const auto& s : streams) {
            if (s.size != s.want)
                return Error::make(Code::model_format,
                                   "%s: tensor %s: %" PRIu64 " bytes of %s, %s of %" PRIu32 " x %" PRIu32
                                   " has %" PRIu64,
                                   path, t.name, s.size, s.name, kind_name(t.kind), t.rows, t.cols, s.want);
            if (s.size == 0) continue;
            // Ascending order excludes overlaps without a search.
            if (s.offset % stream_align != 0 || s.offset < end || s.offset - section.offset > section.size ||
                s.size > section.size - (s.offset - section.offset))
                return Error::make(Code::model_format,
                                   "%s: tensor %s: %s at %" PRIu64 " overlap another tensor or leave their section",
                                   path, t.name, s.name, s.offset);
            end = s.offset + s.size;
        }
        if (t.kind == Kind::i4)
            for (const std::int8_t level : t.book)
                if (level < -31 || level > 31)
                    return Error::make(Code::model_format, "%s: tensor %s: book level %d is outside -31..31", path,
                                       t.name, level);
    }
    return {};
}

void name_place(const RawHeader& header, std::span<const TensorEntry> tensors, std::uint64_t begin, std::uint64_t end,
                char* out, std::size_t size) {
    for (const TensorEntry& t : tensors) {
        const struct {
            const char* name;
            std::uint64_t offset, size;
        } streams[] = {{t.kind == Kind::f32 ? "values" : "codes", t.codes, t.codes_size},
                       {"scales", t.scales, t.scales_size},
                       {t.kind == Kind::i6 ? "high bits" : "steps", t.steps, t.steps_size}};
        for (const auto& s : streams)
            if (s.size != 0 && s.offset < end && begin < s.offset + s.size) {
                std::snprintf(out, size, "%s %s", t.name, s.name);
                return;
            }
    }
    for (std::uint32_t i = 0; i < header.section_count; i++) {
        const Section& s = header.sections[i];
        if (s.size != 0 && s.offset < end && begin < s.offset + s.size) {
            std::snprintf(out, size, "section %s", section_name(s.id));
            return;
        }
    }
    std::snprintf(out, size, begin == 0 ? "header" : "padding");
}

}  // namespace slmd::image
