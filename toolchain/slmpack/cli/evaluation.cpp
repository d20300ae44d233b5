#include "evaluation.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "commands.h"
#include "toolchain/slmpack/image/amend.h"
#include "toolchain/slmpack/image/import.h"

namespace slmd::pack {

Result<Contender> Contender::open(const std::string& path, const engine::Config& config, std::uint32_t vocab) {
    Contender c{.path = path};
    std::error_code failed;
    if (is_image(path)) {
        c.engine = TRY(load_engine(path, config));
        c.bytes = static_cast<double>(std::filesystem::file_size(path, failed));
    } else {
        const auto source = TRY(Source::open(path));
        c.reference = TRY(Reference::open(*source));
        if (std::filesystem::is_directory(path)) {
            for (const auto& entry : std::filesystem::directory_iterator(path, failed))
                if (entry.path().extension() == ".safetensors") c.bytes += static_cast<double>(entry.file_size());
        } else {
            c.bytes = static_cast<double>(std::filesystem::file_size(path, failed));
        }
    }
    const auto has = c.reference ? c.reference->params().vocab : static_cast<std::uint32_t>(c.engine.engine->vocab());
    if (has != vocab)
        return Error::make(Code::incorrect_parameters, "%s has %u tokens and the source has %u: not the same model",
                           path.c_str(), has, vocab);
    return c;
}

Result<Json> Contender::identity() const {
    if (reference) return Json{path, bytes};
    // The index covers every tensor. What is recorded in an image does not change that, nor does a new name of it.
    const Sha256 digest = TRY(sha256({std::as_bytes(std::span(engine.image->header().index_sha256)),
                                      std::as_bytes(std::span(&engine.image->params(), 1))}));
    return Json(hex(digest));
}

Result<Progress> Progress::open(const std::string& path, const std::string& what) {
    Progress p;
    p.path_ = path;
    if (path.empty()) return p;
    std::ifstream in(path);
    std::string line;
    if (std::getline(in, line)) {
        if (line != what)
            return Error::make(Code::incorrect_parameters,
                               "%s holds the beginning of another evaluation: finish that, or remove the file",
                               path.c_str());
        while (std::getline(in, line)) {
            const Json piece = Json::parse(line, nullptr, false);
            if (piece.is_discarded()) break;
            p.pieces_.push_back(piece);
        }
    }
    in.close();
    std::string kept = what + "\n";
    for (const Json& piece : p.pieces_) kept += piece.dump() + "\n";
    TRY(write_file(path.c_str(), std::as_bytes(std::span(kept))));
    return p;
}

Result<void> Progress::add(const Json& piece) {
    if (path_.empty()) return {};
    std::ofstream out(path_, std::ios::app);
    out << piece.dump() << std::endl;
    if (!out) return Error::make(Code::storage_failure, "%s: cannot be written", path_.c_str());
    return {};
}

Result<void> record_evaluation(const std::string& path, const std::string& source, const Json& of,
                               const Json& figures) {
    Amendment amendment;
    {
        const auto image = TRY(image::Image::open(path.c_str(), {.threads = 2}));
        const auto text = image.section(image::SectionId::provenance);
        Json record = Json::parse(reinterpret_cast<const char*>(text.data()),
                                  reinterpret_cast<const char*>(text.data()) + text.size(), nullptr, false);
        if (!record.is_object())
            return Error::make(Code::model_format, "%s: its provenance is no JSON object; import the model again",
                               path.c_str());
        Json entry{{"of", of}, {"source", Json::parse(source)}};
        Json list = Json::array();
        if (const auto before = record.find("evaluation"); before != record.end() && before->is_array())
            for (const Json& e : *before)
                if (!e.is_object() || e.value("of", Json{}) != of || e.value("source", Json{}) != entry["source"])
                    list.push_back(e);
        entry["tool"] = "slmpack " SLMD_VERSION;
        entry.update(figures);
        list.push_back(entry);
        record["evaluation"] = list;
        amendment.provenance = record.dump(1, ' ', false, Json::error_handler_t::replace);
    }
    const AmendSummary done = TRY(amend_image(path, path, amendment));
    warn_of_signature(done, path);
    return {};
}

void print_evaluations(std::span<const std::byte> provenance) {
    const auto* const text = reinterpret_cast<const char*>(provenance.data());
    const Json record = Json::parse(text, text + provenance.size(), nullptr, false);
    if (!record.is_object()) return;
    const auto list = record.find("evaluation");
    if (list == record.end() || !list->is_array()) return;
    // What somebody else wrote may have any shape.
    const auto at = [](const Json& e, const char* path) {
        const Json::json_pointer pointer(path);
        return e.is_object() && e.contains(pointer) ? e.at(pointer) : Json{};
    };
    const auto number = [&](const Json& e, const char* path) {
        const Json found = at(e, path);
        return found.is_number() ? found.get<double>() : std::nan("");
    };
    const auto word = [&](const Json& e, const char* path) {
        const Json found = at(e, path);
        return found.is_string() ? found.get<std::string>() : std::string("?");
    };
    std::printf("\nevaluation\n");
    for (const Json& e : *list) {
        if (at(e, "/of/text").is_object())
            std::printf(
                "  KL %.5f +- %.5f, 99 %% %.5f, most %.5f; perplexity %.4f, %.5f of the source's; top-1 %.4f; "
                "%.0f positions of text %s\n",
                number(e, "/kl/mean"), number(e, "/kl/error"), number(e, "/kl/p99"), number(e, "/kl/most"),
                number(e, "/perplexity"), number(e, "/ratio"), number(e, "/top1"), number(e, "/positions"),
                word(e, "/of/text/sha256").substr(0, 16).c_str());
        if (at(e, "/of/task").is_object())
            std::printf(
                "  accuracy %.4f +- %.4f, %.4f +- %.4f of the source's; agreement %.4f; %.0f lines, %.0f labels "
                "of %s\n",
                number(e, "/accuracy"), number(e, "/error"), number(e, "/relative"), number(e, "/relative_error"),
                number(e, "/agreement"), number(e, "/lines"), number(e, "/labels"), word(e, "/file").c_str());
    }
}

}  // namespace slmd::pack
