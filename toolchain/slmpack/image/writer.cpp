#include "writer.h"

#include <cinttypes>
#include <cstring>

#include "base/bytes.h"
#include "base/file.h"
#include "base/sha256.h"
#include "image/check.h"
#include "image/layout.h"
#include "image/resident.h"
#include "output.h"

namespace slmd::pack {
namespace {

using namespace image;

// Where everything lies in the raw form. Sections are padded to 64 KiB, streams to 64 bytes. Index and params come
// last, since the books are known only after the last tensor is quantized.
struct Plan {
    std::vector<TensorEntry> index;
    std::uint64_t tensors = 0, tensors_end = 0;  // section
    std::uint32_t frames = 1;                    // the header's
};

// How a stream is cut: frames of whole units, about as large as target.
struct Cut {
    std::uint64_t unit, target;
};

// unit: of a block of rows. Of experts a frame holds one's bytes or an even part of them, where they are as many as
// streams are aligned to.
Cut cut_of(const TensorEntry& t, const ModelParams& params, std::uint64_t bytes, std::uint64_t unit) {
    if (t.residency != residency_on_demand) return {unit, stream_frame};
    if (!is_expert(t)) return {unit, row_frame};
    const std::uint64_t share = bytes / params.experts;
    std::uint64_t parts = std::max<std::uint64_t>(1, (share + stream_frame - 1) / stream_frame);
    while (parts < 64 && (share % parts != 0 || share / parts % stream_align != 0)) parts++;
    if (bytes % params.experts != 0 || share % parts != 0 || share / parts % stream_align != 0)
        return {unit, stream_frame};
    return {share / parts, share / parts};
}

// Of a block of rows, rounded up to the alignment of streams: a few blocks of a narrow tensor.
StreamSizes units_of(const TensorEntry& t) {
    if (t.kind == Kind::f32) return {stream_align, stream_align, stream_align};
    const StreamSizes block = stream_sizes(t.kind, block_rows, t.cols);
    const auto unit = [](std::uint64_t bytes) { return std::max(stream_align, round_up(bytes, stream_align)); };
    return {unit(block.codes), unit(block.scales), unit(block.steps)};
}

Result<Plan> plan_layout(const ImageContents& contents) {
    if (contents.tensors.empty() || contents.tensors.size() > max_tensors)
        return Error::make(Code::model_format, "an image holds 1 to %u tensors, not %zu", max_tensors,
                           contents.tensors.size());
    Plan plan;
    std::uint64_t at = section_align, frames = 1;
    for (const auto* section : {&contents.tokenizer, &contents.chat}) {
        at += round_up(section->size(), section_align);
        frames += Output::section_frames(SectionId::tokenizer, section->size());
    }
    plan.tensors = at;
    for (const TensorSpec& spec : contents.tensors) {
        TensorEntry t{};
        if (spec.name.empty() || spec.name.size() >= sizeof t.name)
            return Error::make(Code::model_format, "tensor \"%s\": a name has 1 to %zu characters", spec.name.c_str(),
                               sizeof t.name - 1);
        if (spec.rows == 0 || spec.cols == 0 || spec.rows > max_dimension || spec.cols > max_dimension)
            return Error::make(Code::model_format, "tensor %s: impossible shape %u x %u", spec.name.c_str(), spec.rows,
                               spec.cols);
        std::memcpy(t.name, spec.name.data(), spec.name.size());
        t.kind = spec.kind;
        t.rows = spec.rows;
        t.cols = spec.cols;
        t.residency = spec.residency;
        const StreamSizes sizes = stream_sizes(t.kind, t.rows, t.cols), units = units_of(t);
        const auto place = [&](std::uint64_t size, std::uint64_t unit, std::uint64_t& offset, std::uint64_t& stream) {
            offset = size == 0 ? 0 : at;
            stream = size;
            at += round_up(size, stream_align);
            const Cut cut = cut_of(t, contents.params, size, unit);
            frames += Output::frame_count(round_up(size, stream_align), cut.unit, cut.target);
        };
        place(sizes.codes, units.codes, t.codes, t.codes_size);
        place(sizes.scales, units.scales, t.scales, t.scales_size);
        place(sizes.steps, units.steps, t.steps, t.steps_size);
        plan.index.push_back(t);
    }
    plan.tensors_end = at;
    frames += at % section_align != 0 ? 1 : 0;  // padding
    frames += 3;                                // provenance, params, index
    if (frames > max_frames)
        return Error::make(Code::model_format, "the model is too large: %" PRIu64 " frames", frames);
    plan.frames = static_cast<std::uint32_t>(frames);
    return plan;
}

}  // namespace

Result<WriteSummary> write_image(const std::string& path, const ImageContents& contents, const WriteOptions& options) {
    Plan plan = TRY(plan_layout(contents));
    AtomicFile file = TRY(AtomicFile::create(path.c_str()));
    Output out(file, options, plan.frames);
    out.expect(plan.tensors_end);

    RawHeader header{};
    std::memcpy(header.magic, raw_magic, sizeof header.magic);
    const bool newest =
        std::any_of(plan.index.begin(), plan.index.end(), [](const TensorEntry& t) { return t.kind == Kind::i6; });
    header.version = header.reader = newest ? reader_version : 1;
    header.tensor_count = static_cast<std::uint32_t>(plan.index.size());
    header.base = contents.base;
    if (!contents.tokenizer.empty()) TRY(out.put_section(header, SectionId::tokenizer, contents.tokenizer));
    if (!contents.chat.empty()) TRY(out.put_section(header, SectionId::chat, contents.chat));

    WriteSummary summary;
    header.sections[header.section_count++] = {static_cast<std::uint32_t>(SectionId::tensors), 0, plan.tensors,
                                               plan.tensors_end - plan.tensors};
    for (std::size_t i = 0; i < plan.index.size(); i++) {
        TensorEntry& entry = plan.index[i];
        auto made = contents.tensor(contents.tensors[i]);
        if (!made) return Error::make(made.error().code, "tensor %s: %s", entry.name, made.error().text);
        const TensorData& tensor = *made;
        if (tensor.kind != entry.kind || tensor.rows != entry.rows || tensor.cols != entry.cols)
            return Error::make(Code::unknown, "tensor %s: came as %s %u x %u", entry.name, kind_name(tensor.kind),
                               tensor.rows, tensor.cols);
        if (entry.kind == Kind::i4) std::memcpy(entry.book, tensor.book.data(), sizeof entry.book);
        Streams streams = lay_out(tensor);
        const std::vector<std::byte>* parts[] = {&streams.codes, &streams.scales, &streams.steps};
        for (int k = 0; k < 3; k++) entry.crc32c[k] = crc32c(*parts[k]);
        const Sha256 hash = TRY(sha256({streams.codes, streams.scales, streams.steps}));
        std::memcpy(entry.sha256, hash.data(), sizeof entry.sha256);
        TensorSummary s;
        const auto put = [&](std::vector<std::byte>& bytes, std::uint64_t unit) -> Result<StreamSummary> {
            const std::uint64_t size = bytes.size();
            const Cut cut = cut_of(entry, contents.params, size, unit);
            bytes.resize(round_up(size, stream_align));
            return StreamSummary{size, TRY(out.put_stream(bytes, cut.unit, options.level, cut.target))};
        };
        const StreamSizes units = units_of(entry);
        s.codes = TRY(put(streams.codes, units.codes));
        s.scales = TRY(put(streams.scales, units.scales));
        s.steps = TRY(put(streams.steps, units.steps));
        if (contents.written) contents.written(contents.tensors[i], s);
    }
    const std::vector<std::byte> padding(round_up(plan.tensors_end, section_align) - plan.tensors_end);
    if (!padding.empty()) TRY(out.put(padding, options.level));

    const std::string text = contents.provenance ? contents.provenance() : "{}";
    TRY(check_provenance(text));
    const auto provenance = std::as_bytes(std::span(text));
    TRY(out.put_section(header, SectionId::provenance, {provenance.begin(), provenance.end()}));
    const auto params = std::as_bytes(std::span(&contents.params, 1));
    TRY(out.put_section(header, SectionId::params, {params.begin(), params.end()}));
    const auto index = std::as_bytes(std::span(plan.index));
    const Sha256 digest = TRY(sha256(index));
    std::memcpy(header.index_sha256, digest.data(), digest.size());
    TRY(out.put_section(header, SectionId::index, {index.begin(), index.end()}));

    header.raw_size = summary.raw = out.raw();
    // What the reader would refuse is not written.
    TRY(check_header(path.c_str(), header));
    TRY(check_index(path.c_str(), header, plan.index, contents.params));
    summary.stored = TRY(out.finish(header));
    TRY(file.commit());
    return summary;
}

}  // namespace slmd::pack
