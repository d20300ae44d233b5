#include "amend.h"

#include <fcntl.h>

#include <cinttypes>
#include <cstring>

#include "base/bytes.h"
#include "base/file.h"
#include "image/check.h"
#include "image/image.h"
#include "image/layout.h"
#include "image/signature.h"
#include "image/stored.h"
#include "output.h"

namespace slmd::pack {
namespace {

using namespace image;

struct NewSection {
    SectionId id;
    std::vector<std::byte> bytes;
};

// What will lie behind the tensors, in order: provenance, golden, and what else is there.
Result<std::vector<NewSection>> sections_behind(const std::string& path, const Image& image, std::uint64_t tensors_end,
                                                const Amendment& amendment) {
    std::vector<NewSection> out;
    if (amendment.provenance) {
        TRY(check_provenance(*amendment.provenance));
        const auto text = std::as_bytes(std::span(*amendment.provenance));
        out.push_back({SectionId::provenance, {text.begin(), text.end()}});
    }
    const std::size_t first = out.size();  // of those that are not provenance
    if (amendment.golden && !amendment.golden->empty()) out.push_back({SectionId::golden, *amendment.golden});
    if (amendment.prefixes && !amendment.prefixes->empty()) out.push_back({SectionId::prefixes, *amendment.prefixes});
    const RawHeader& header = image.header();
    for (std::uint32_t i = 0; i < header.section_count; i++) {
        const Section& s = header.sections[i];
        const auto id = static_cast<SectionId>(s.id);
        const bool replaced = (id == SectionId::provenance && amendment.provenance.has_value()) ||
                              (id == SectionId::golden && amendment.golden.has_value()) ||
                              (id == SectionId::prefixes && amendment.prefixes.has_value());
        if (s.offset < tensors_end && replaced)
            return Error::make(Code::model_format,
                               "%s: its section %s lies before the tensors, where slmpack does not put it; import the "
                               "model again",
                               path.c_str(), section_name(s.id));
        if (s.offset < tensors_end || replaced) continue;
        const auto bytes = image.raw().subspan(s.offset, s.size);
        NewSection section{id, {bytes.begin(), bytes.end()}};
        if (id == SectionId::provenance)
            out.insert(out.begin() + static_cast<std::ptrdiff_t>(first), std::move(section));
        else
            out.push_back(std::move(section));
    }
    return out;
}

}  // namespace

Result<AmendSummary> amend_image(const std::string& path, const std::string& output, const Amendment& amendment) {
    const Image image = TRY(Image::open(path.c_str(), {.threads = 4}));
    const RawHeader& before = image.header();
    if (!has_hashes(before))
        return Error::make(Code::model_format,
                           "%s: made by an older slmpack, without hashes of its sections; import the model again",
                           path.c_str());
    const Section& tensors = *find_section(before, SectionId::tensors);
    const std::uint64_t end = round_up(tensors.offset + tensors.size, section_align);
    const auto sections = TRY(sections_behind(path, image, end, amendment));

    RawHeader header = before;
    header.signature = {};
    header.section_count = 0;
    std::memset(header.sections, 0, sizeof header.sections);
    std::memset(header.section_sha256, 0, sizeof header.section_sha256);
    for (std::uint32_t i = 0; i < before.section_count && before.sections[i].offset < end; i++) {
        header.sections[i] = before.sections[i];
        std::memcpy(header.section_sha256[i], before.section_sha256[i], sizeof header.section_sha256[i]);
        header.section_count++;
    }

    WriteOptions options;
    options.raw = !image.sizes().compressed;
    const MappedFile map = TRY(MappedFile::open(path.c_str()));
    if (end > image.raw().size())  // the index always follows the tensors of slmpack
        return Error::make(Code::model_format, "%s: nothing follows its tensors; import the model again", path.c_str());
    AtomicFile file = TRY(AtomicFile::create(output.c_str()));
    const auto finish = [&](Output& out) -> Result<AmendSummary> {
        for (const NewSection& s : sections) TRY(out.put_section(header, s.id, s.bytes));
        header.raw_size = out.raw();
        TRY(check_header(output.c_str(), header));
        const std::uint64_t bytes = TRY(out.finish(header));
        TRY(file.commit());
        return AmendSummary{header.raw_size, bytes, is_signed(before)};
    };
    if (options.raw) {
        Output out(file, options, 0);
        TRY(out.put(map.bytes().subspan(section_align, end - section_align), 0));
        return finish(out);
    }

    const StoredFile stored =
        TRY(StoredFile::open(path.c_str(), ::open(path.c_str(), O_RDONLY | O_CLOEXEC), map.bytes().size()));
    const std::uint32_t kept = stored.frame_at(end);  // the frames before that one
    if (stored.frames()[0].raw != section_align || stored.raw_offset(kept) != end)
        return Error::make(Code::model_format,
                           "%s: its frames do not end where its sections do, as those of slmpack; import the model "
                           "again",
                           path.c_str());
    std::uint64_t frames = kept;
    for (const NewSection& s : sections) frames += Output::section_frames(s.id, s.bytes.size());
    if (frames > max_frames)
        return Error::make(Code::model_format, "%s: %" PRIu64 " frames are more than an image has", path.c_str(),
                           frames);
    Output out(file, options, static_cast<std::uint32_t>(frames));
    for (std::uint32_t i = 1; i < kept; i++) {
        const FrameEntry& e = stored.frames()[i];
        TRY(out.copy(map.bytes().subspan(e.offset, e.stored), e.raw));
    }
    return finish(out);
}

}  // namespace slmd::pack
