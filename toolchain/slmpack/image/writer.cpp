#include "writer.h"

#define ZSTD_STATIC_LINKING_ONLY  // ZSTD_c_literalCompressionMode
#include <zstd.h>

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <memory>

#include "base/bytes.h"
#include "base/file.h"
#include "image/check.h"
#include "image/layout.h"
#include "image/sha256.h"

namespace slmd::pack {
namespace {

using namespace image;

constexpr std::uint64_t skippable_header = 8;
// Of a tensor's stream. Smaller than the format allows: encoded and decoded bytes stay in a small core's cache
// together, and zstd loses nothing (0.02 % against 1 MiB on 4-bit codes).
constexpr std::uint64_t stream_frame = 256 * 1024;
// Of a tensor that is decoded on demand, some tens of rows at a time.
constexpr std::uint64_t row_frame = 32 * 1024;
constexpr std::uint32_t block_bytes = 128 * 1024;  // the most that a zstd block holds

template <class T>
void append(std::vector<std::byte>& out, const T& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    out.insert(out.end(), bytes.begin(), bytes.end());
}

// Puts raw bytes into the file, in order, in the chosen form. The first frame, the header's, has a size known
// beforehand and is written last.
class Output {
  public:
    Output(AtomicFile& file, const WriteOptions& options, std::uint32_t frame_count)
        : file_(file), options_(options), context_(ZSTD_createCCtx(), ZSTD_freeCCtx) {
        compressed_.resize(ZSTD_compressBound(frame_bytes));
        second_.resize(compressed_.size());
        if (options.raw) return;
        frames_.resize(frame_count);
        first_frame_ = skippable_header + sizeof(StoredHeader) + frame_count * sizeof(FrameEntry);
        at_ = first_frame_ + plain_frame(header_unit()).size();
    }

    static std::vector<std::byte> header_unit() { return std::vector<std::byte>(section_align); }

    // One frame, or its bytes in the raw form. Returns what it takes in the file.
    Result<std::uint64_t> put(std::span<const std::byte> bytes, int level) {
        const std::uint64_t raw_at = raw_;
        raw_ += bytes.size();
        if (options_.raw) {
            TRY(file_.write_at(raw_at, bytes));
            return bytes.size();
        }
        std::size_t n = TRY(compress(bytes, level, ZSTD_ps_auto, compressed_));
        // Codes are noise with a skewed histogram: what zstd takes for repetitions is chance, costs more than it saves
        // (0.4 bits a weight of i8) and decodes at half the speed. Huffman codes alone, where they are the smaller.
        if (level == options_.level) {
            const std::size_t literals = TRY(compress(bytes, no_matches, ZSTD_ps_enable, second_));
            if (literals < n) {
                n = literals;
                compressed_.swap(second_);
            }
        }
        if (static_cast<double>(n) > static_cast<double>(bytes.size()) * (1 - options_.least_saving))
            return emit(plain_frame(bytes), bytes.size());
        return emit(std::span(compressed_).first(n), bytes.size());
    }

    // The frames of a stream: whole units, of nearly equal size.
    Result<std::uint64_t> put_stream(std::span<const std::byte> bytes, std::uint64_t unit, int level,
                                     std::uint64_t target = stream_frame) {
        const std::uint64_t piece = frame_size(bytes.size(), unit, target);
        std::uint64_t stored = 0;
        for (std::uint64_t at = 0; at < bytes.size(); at += piece) {
            stored += TRY(put(bytes.subspan(at, std::min<std::uint64_t>(piece, bytes.size() - at)), level));
            if (options_.progress) options_.progress(raw_, total_);
        }
        return stored;
    }
    static std::uint64_t frame_size(std::uint64_t bytes, std::uint64_t unit, std::uint64_t target = stream_frame) {
        if (bytes == 0) return frame_bytes;
        const std::uint64_t most = unit > frame_bytes ? frame_bytes : std::max(unit, target) / unit * unit;
        const std::uint64_t count = (bytes + most - 1) / most;
        return std::min(most, round_up((bytes + count - 1) / count, unit > frame_bytes ? stream_align : unit));
    }
    static std::uint64_t frame_count(std::uint64_t bytes, std::uint64_t unit, std::uint64_t target = stream_frame) {
        const std::uint64_t piece = frame_size(bytes, unit, target);
        return (bytes + piece - 1) / piece;
    }

    std::uint64_t raw() const { return raw_; }
    void expect(std::uint64_t total) { total_ = total; }

    // Header frame, then for the stored form its skippable frame in front and the seek table at the end. Returns the
    // size of the file.
    Result<std::uint64_t> finish(const RawHeader& header) {
        std::vector<std::byte> unit = header_unit();
        std::memcpy(unit.data(), &header, sizeof header);
        if (options_.raw) {
            TRY(file_.write_at(0, unit));
            return raw_;
        }
        const auto first = plain_frame(unit);
        frames_[0] = {first_frame_, static_cast<std::uint32_t>(first.size()), static_cast<std::uint32_t>(unit.size()),
                      crc32c(first), 0};
        TRY(file_.write_at(first_frame_, first));
        if (next_ != frames_.size())
            return Error::make(Code::unknown, "%zu frames were planned, %u written", frames_.size(), next_);

        // https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md,
        // without checksums
        const auto count = static_cast<std::uint32_t>(frames_.size());
        std::vector<std::byte> table;
        append(table, seek_table_magic);
        append(table, (count + 1) * 8 + 9);
        append(table, static_cast<std::uint32_t>(first_frame_));
        append(table, std::uint32_t{0});
        for (const FrameEntry& e : frames_) {
            append(table, e.stored);
            append(table, e.raw);
        }
        append(table, count + 1);
        append(table, std::uint8_t{0});
        append(table, seekable_magic);
        TRY(file_.write_at(at_, table));

        StoredHeader stored{};
        std::memcpy(stored.magic, stored_magic, sizeof stored.magic);
        stored.version = header.version;
        stored.reader = header.reader;
        stored.raw_size = header.raw_size;
        stored.stored_size = at_ + table.size();
        stored.frame_count = count;
        std::memcpy(stored.index_sha256, header.index_sha256, sizeof stored.index_sha256);
        const Sha256 digest = TRY(sha256(std::as_bytes(std::span(frames_))));
        std::memcpy(stored.frames_sha256, digest.data(), digest.size());
        std::vector<std::byte> front;
        append(front, skippable_magic);
        append(front, static_cast<std::uint32_t>(first_frame_ - skippable_header));
        append(front, stored);
        const auto entries = std::as_bytes(std::span(frames_));
        front.insert(front.end(), entries.begin(), entries.end());
        TRY(file_.write_at(0, front));
        return stored.stored_size;
    }

  private:
    static constexpr int no_matches = -100;  // a level that looks for next to none

    Result<std::size_t> compress(std::span<const std::byte> bytes, int level, ZSTD_paramSwitch_e huffman,
                                 std::vector<std::byte>& to) {
        ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, level);
        ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_literalCompressionMode, huffman);
        const std::size_t n = ZSTD_compress2(context_.get(), to.data(), to.size(), bytes.data(), bytes.size());
        if (ZSTD_isError(n)) return Error::make(Code::unknown, "zstd: %s", ZSTD_getErrorName(n));
        return n;
    }

    Result<std::uint64_t> emit(std::span<const std::byte> frame, std::size_t raw) {
        if (next_ >= frames_.size()) return Error::make(Code::unknown, "more than %zu frames", frames_.size());
        frames_[next_++] = {at_, static_cast<std::uint32_t>(frame.size()), static_cast<std::uint32_t>(raw),
                            crc32c(frame), 0};
        TRY(file_.write_at(at_, frame));
        at_ += frame.size();
        return frame.size();
    }

    AtomicFile& file_;
    const WriteOptions& options_;
    std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)> context_;
    std::vector<std::byte> compressed_, second_;
    std::vector<FrameEntry> frames_;
    std::uint32_t next_ = 1;
    std::uint64_t first_frame_ = 0, at_ = 0, raw_ = section_align, total_ = 0;
};

// Where everything lies in the raw form. Sections are padded to 64 KiB, streams to 64 bytes. Index and params come
// last, since the books are known only after the last tensor is quantized.
struct Plan {
    std::vector<TensorEntry> index;
    std::uint64_t tensors = 0, tensors_end = 0;  // section
    std::uint32_t frames = 1;                    // the header's
};

constexpr int metadata_level = 19;            // of zstd; text and tables win by it, and are small
constexpr std::uint64_t whole = frame_bytes;  // unit of metadata sections: one frame where it fits

std::uint64_t target_of(const TensorEntry& t) { return t.residency == residency_on_demand ? row_frame : stream_frame; }

std::uint64_t block_codes(const TensorEntry& t) {
    const std::uint64_t groups = (t.cols + group_cols - 1) / group_cols;
    return t.kind == Kind::f32 ? stream_align : groups * (t.kind == Kind::i8 ? 256 : 128);
}
std::uint64_t block_scales(const TensorEntry& t) {
    const std::uint64_t groups = (t.cols + group_cols - 1) / group_cols;
    // Rounded up to the alignment of streams: a few blocks of a narrow tensor.
    return round_up(groups * (t.kind == Kind::i4 ? 8 : t.kind == Kind::i4a ? 32 : 16), stream_align);
}

Result<Plan> plan_layout(const ImageContents& contents) {
    if (contents.tensors.empty() || contents.tensors.size() > max_tensors)
        return Error::make(Code::model_format, "an image holds 1 to %u tensors, not %zu", max_tensors,
                           contents.tensors.size());
    Plan plan;
    std::uint64_t at = section_align, frames = 1;
    for (const auto* section : {&contents.tokenizer, &contents.chat}) {
        at += round_up(section->size(), section_align);
        frames += Output::frame_count(round_up(section->size(), section_align), whole);
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
        const StreamSizes sizes = stream_sizes(t.kind, t.rows, t.cols);
        const auto place = [&](std::uint64_t size, std::uint64_t unit, std::uint64_t& offset, std::uint64_t& stream) {
            offset = size == 0 ? 0 : at;
            stream = size;
            at += round_up(size, stream_align);
            frames += Output::frame_count(round_up(size, stream_align), unit, target_of(t));
        };
        place(sizes.codes, block_codes(t), t.codes, t.codes_size);
        place(sizes.scales, block_scales(t), t.scales, t.scales_size);
        place(sizes.steps, stream_align, t.steps, t.steps_size);
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

void pad(std::vector<std::byte>& bytes, std::uint64_t to) { bytes.resize(round_up(bytes.size(), to)); }

}  // namespace

std::vector<std::byte> plain_frame(std::span<const std::byte> bytes) {
    std::vector<std::byte> out;
    out.reserve(bytes.size() + bytes.size() / block_bytes * 3 + 32);
    append(out, std::uint32_t{0xFD2FB528});
    append(out, std::uint8_t{
                    0xA0});  // 4 bytes of content size, single segment, no checksum, no dictionary (RFC 8878, 3.1.1.1)
    append(out, static_cast<std::uint32_t>(bytes.size()));
    const auto block = [&](std::span<const std::byte> part, bool rle, bool last) {
        const std::uint32_t header = (last ? 1u : 0u) | (rle ? 2u : 0u) | static_cast<std::uint32_t>(part.size()) << 3;
        for (int shift : {0, 8, 16}) append(out, static_cast<std::uint8_t>(header >> shift));
        out.insert(out.end(), part.begin(), rle ? part.begin() + 1 : part.end());
    };
    // A tail of zeros (padding) from a multiple of 4 KiB on becomes RLE blocks.
    constexpr std::size_t page = 4096;
    std::size_t tail = bytes.size();
    while (tail > page && std::all_of(bytes.begin() + (tail - 1) / page * page, bytes.begin() + tail,
                                      [](std::byte b) { return b == std::byte{}; }))
        tail = (tail - 1) / page * page;
    for (std::size_t at = 0; at < bytes.size();) {
        const std::size_t end = std::min(at < tail ? tail : bytes.size(), at + block_bytes);
        block(bytes.subspan(at, end - at), at >= tail, end == bytes.size());
        at = end;
    }
    return out;
}

Result<WriteSummary> write_image(const std::string& path, const ImageContents& contents, const WriteOptions& options) {
    Plan plan = TRY(plan_layout(contents));
    AtomicFile file = TRY(AtomicFile::create(path.c_str()));
    Output out(file, options, plan.frames);
    out.expect(plan.tensors_end);

    RawHeader header{};
    std::memcpy(header.magic, raw_magic, sizeof header.magic);
    header.version = format_version;
    header.reader = reader_version;
    header.tensor_count = static_cast<std::uint32_t>(plan.index.size());
    const auto add_section = [&](SectionId id, std::uint64_t offset, std::uint64_t size, std::uint32_t crc) {
        header.sections[header.section_count++] = {static_cast<std::uint32_t>(id), crc, offset, size};
    };
    const auto put_section = [&](SectionId id, std::vector<std::byte> bytes, std::uint64_t align) -> Result<void> {
        if (id != SectionId::index) {
            const Sha256 hash = TRY(sha256(bytes));
            std::memcpy(header.section_sha256[header.section_count], hash.data(), hash.size());
        }
        add_section(id, out.raw(), bytes.size(), id == SectionId::index ? 0 : crc32c(bytes));
        pad(bytes, align);
        TRY(out.put_stream(bytes, whole, metadata_level));
        return {};
    };

    if (!contents.tokenizer.empty()) TRY(put_section(SectionId::tokenizer, contents.tokenizer, section_align));
    if (!contents.chat.empty()) TRY(put_section(SectionId::chat, contents.chat, section_align));

    WriteSummary summary;
    add_section(SectionId::tensors, plan.tensors, plan.tensors_end - plan.tensors, 0);
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
            pad(bytes, stream_align);
            return StreamSummary{size, TRY(out.put_stream(bytes, unit, options.level, target_of(entry)))};
        };
        s.codes = TRY(put(streams.codes, block_codes(entry)));
        s.scales = TRY(put(streams.scales, block_scales(entry)));
        s.steps = TRY(put(streams.steps, stream_align));
        if (contents.written) contents.written(contents.tensors[i], s);
    }
    const std::vector<std::byte> padding(round_up(plan.tensors_end, section_align) - plan.tensors_end);
    if (!padding.empty()) TRY(out.put(padding, options.level));

    const std::string text = contents.provenance ? contents.provenance() : "{}";
    if (text.empty() || text.size() > frame_bytes)
        return Error::make(Code::model_format, "provenance has %zu bytes; 1 to %" PRIu64 " fit", text.size(),
                           frame_bytes);
    const auto provenance = std::as_bytes(std::span(text));
    TRY(put_section(SectionId::provenance, {provenance.begin(), provenance.end()}, section_align));
    const auto params = std::as_bytes(std::span(&contents.params, 1));
    TRY(put_section(SectionId::params, {params.begin(), params.end()}, section_align));
    const auto index = std::as_bytes(std::span(plan.index));
    const Sha256 digest = TRY(sha256(index));
    std::memcpy(header.index_sha256, digest.data(), digest.size());
    TRY(put_section(SectionId::index, {index.begin(), index.end()}, stream_align));

    header.raw_size = summary.raw = out.raw();
    // What the reader would refuse is not written.
    TRY(check_header(path.c_str(), header));
    TRY(check_index(path.c_str(), header, plan.index, contents.params));
    summary.stored = TRY(out.finish(header));
    TRY(file.commit());
    return summary;
}

}  // namespace slmd::pack
