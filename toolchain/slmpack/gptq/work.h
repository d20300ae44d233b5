// What a quantization has done so far, in a folder: survives being killed.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "forecast.h"
#include "toolchain/slmpack/image/layout.h"

namespace slmd::pack {

class Work {
  public:
    // Makes the folder or goes on in it. Errors: storage_failure; incorrect_parameters when it holds something else
    // than `fingerprint` says.
    static Result<Work> open(const std::string& folder, const std::string& fingerprint);

    bool has(const std::string& name) const;
    // A file appears whole or not at all.
    Result<void> put(const std::string& name, const TensorData& tensor) const;
    Result<TensorData> tensor(const std::string& name) const;
    Result<void> put(const std::string& name, const Survey& survey) const;
    Result<Survey> survey(const std::string& name) const;
    Result<void> put(const std::string& name, const SurveyState& state,
                     const std::vector<Forecast::Point>& points) const;
    Result<SurveyState> survey_state(const std::string& name, std::vector<Forecast::Point>& points) const;
    Result<void> put(const std::string& name, const std::vector<Matrix>& matrices) const;
    Result<std::vector<Matrix>> matrices(const std::string& name) const;
    Result<void> put(const std::string& name, const std::string& text) const;
    Result<std::string> text(const std::string& name) const;
    void remove(const std::string& name) const;
    void remove_all() const;

  private:
    explicit Work(std::string folder) : folder_(std::move(folder)) {}
    std::string path(const std::string& name) const { return folder_ + "/" + name; }
    std::string folder_;
};

}  // namespace slmd::pack
