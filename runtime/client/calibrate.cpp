#include "client/calibrate.h"

#include <limits.h>
#include <string.h>

#include "agent/calibration_file.h"
#include "agent/plot.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/sha256.h"

namespace slmd::client {
namespace {

using agent::Calibration;
using agent::RiskCoverage;

constexpr double wanted_risk = 0.05;

void print(const agent::Fit& fit, FILE* out) {
    const Calibration& c = fit.calibration;
    fprintf(out, "%d judged answers, %.1f %% of them right\n", c.examples, 100 * static_cast<double>(c.accuracy));
    fprintf(out, "%-24s%10s%10s\n", "", "before", "after");
    fprintf(out, "%-24s%10s%10s\n", "confidence is made of", feature_name(agent::Feature::mean),
            feature_name(c.feature));
    fprintf(out, "%-24s%10.4f%10.4f  (by chance alone %.4f)\n", "calibration error (ECE)",
            static_cast<double>(c.before.ece), static_cast<double>(c.after.ece), agent::chance_ece(fit.after));
    fprintf(out, "%-24s%10.4f%10.4f\n", "Brier score", static_cast<double>(c.before.brier),
            static_cast<double>(c.after.brier));
    const RiskCoverage before(fit.before), after(fit.after);
    fprintf(out, "wrong among the surest\n");
    for (const int percent : {50, 80, 90, 100})
        fprintf(out, "%20d %%  %8.1f %%%8.1f %%\n", percent, 100 * before.risk(percent / 100.0),
                100 * after.risk(percent / 100.0));
    fprintf(out, "%-24s%10.4f%10.4f\n", "area under that curve", before.area(), after.area());
    const RiskCoverage::Choice choice = after.choose(wanted_risk);
    if (choice.coverage > 0)
        fprintf(out, "threshold = %.3f keeps %.1f %% of the answers, of which %.1f %% are wrong\n", choice.threshold,
                100 * choice.coverage, 100 * choice.risk);
    else
        fprintf(out, "no threshold leaves answers of which at most %.0f %% are wrong\n", 100 * wanted_risk);
}

}  // namespace

Result<void> calibrate(const char* agent_path, std::string_view sha256, std::string_view model,
                       std::string_view adapter_sha256, const NextSample& next, FILE* out) {
    char calibration_path[PATH_MAX], picture_path[PATH_MAX];
    TRY(agent::path_beside(agent_path, ".calibration", calibration_path));
    TRY(agent::path_beside(agent_path, ".svg", picture_path));
    Sha256 hash;
    {
        const MappedFile file = TRY(MappedFile::open(agent_path));
        hash = TRY(slmd::sha256(file.bytes()));
    }
    Calibration header;
    write_hex(hash, header.agent_sha256);
    if (sha256 != header.agent_sha256)
        return Error::make(Code::not_allowed, "%s: slmd has another text of it; systemctl reload slmd first",
                           agent_path);
    if (model.empty() || model.size() >= sizeof header.model)
        return Error::make(Code::text_too_long, "the model's name has %zu bytes: 1 to %zu", model.size(),
                           sizeof header.model - 1);
    if (adapter_sha256.size() >= sizeof header.adapter_sha256)
        return Error::make(Code::text_too_long, "the adapter's hash has %zu digits", adapter_sha256.size());

    std::vector<agent::Sample> examples;
    agent::Sample example;
    while (examples.size() <= Calibration::max_examples && TRY(next(example))) examples.push_back(example);
    agent::Fit fit = TRY(agent::fit(examples));
    Calibration& c = fit.calibration;
    memcpy(c.agent_sha256, header.agent_sha256, sizeof c.agent_sha256);
    memcpy(c.model, model.data(), model.size());
    c.model[model.size()] = 0;
    memcpy(c.adapter_sha256, adapter_sha256.data(), adapter_sha256.size());

    print(fit, out);
    const char* const slash = strrchr(agent_path, '/');
    const std::string title = std::string(slash == nullptr ? agent_path : slash + 1) + " on " + c.model;
    const std::string picture = agent::calibration_svg(fit, title);
    TRY(write_file(picture_path, std::as_bytes(std::span(picture))));
    TRY(agent::write_calibration(calibration_path, c));
    fprintf(out, "%s\n%s\n", calibration_path, picture_path);
    return {};
}

}  // namespace slmd::client
