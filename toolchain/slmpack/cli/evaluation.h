// What all evaluations are made of: the models that are judged, what is done so far, and the record in an image.
#pragma once
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model.h"
#include "toolchain/slmpack/reference/reference.h"

namespace slmd::pack {

using Json = nlohmann::ordered_json;

// An image runs on the engine, as on a board; anything else is itself read in float32: what its rounding alone costs.
struct Contender {
    std::string path;
    double bytes = 0;  // of the file, or a folder's weights
    LoadedEngine engine{};
    std::unique_ptr<Reference> reference{};

    // vocab: of the source. Errors: those of both kinds; incorrect_parameters: another vocabulary.
    static Result<Contender> open(const std::string& path, const engine::Config& config, std::uint32_t vocab);
    // Tells it from others, and an image from what it was before its tensors or parameters changed.
    Result<Json> identity() const;
};

// What is done so far: a line a piece of work, in a file that is given. A line that was cut off does not count.
class Progress {
  public:
    // path: empty: nothing is kept. what: tells this evaluation from others. Errors: storage_failure;
    // incorrect_parameters: the file is another evaluation's.
    static Result<Progress> open(const std::string& path, const std::string& what);
    const std::vector<Json>& pieces() const { return pieces_; }
    Result<void> add(const Json& piece);

  private:
    std::string path_;
    std::vector<Json> pieces_;
};

// To so many decimals: what a record needs, and no more.
inline double rounded(double value, int decimals = 6) {
    const double unit = std::pow(10.0, decimals);
    return std::round(value * unit) / unit;
}

// Puts `figures` into the list "evaluation" of the image's provenance, in place of those of the same `of` (what was
// evaluated on) and source. source: JSON, as describe_files() gives it. Says on stderr when a signature goes. Errors:
// those of amend_image(); model_format: the provenance is no JSON object.
Result<void> record_evaluation(const std::string& image, const std::string& source, const Json& of,
                               const Json& figures);

// The list, for people; nothing when there is none.
void print_evaluations(std::span<const std::byte> provenance);

}  // namespace slmd::pack
