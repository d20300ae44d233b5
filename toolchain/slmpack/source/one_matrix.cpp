#include "toolchain/slmpack/source/one_matrix.h"

#include <algorithm>
#include <cmath>

#include "toolchain/slmpack/source/tensor_types.h"

namespace slmd::pack {
namespace {

// Whole bits a weight; 0: unknown.
std::uint32_t bits(const SourceTensor& t) {
    const TensorType* type = tensor_type(t.type.c_str());
    return type == nullptr || type->block == 0 ? 0 : type->bytes * 8 / type->block;
}

// RMS of the difference over RMS of b.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0, power = 0;
    for (std::size_t i = 0; i < a.size(); i++) {
        difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
        power += double(b[i]) * b[i];
    }
    return power > 0 ? std::sqrt(difference / power) : INFINITY;
}

class OneMatrix : public Source {
  public:
    OneMatrix(std::unique_ptr<Source> whole, SourceTensor kept) : whole_(std::move(whole)), kept_(std::move(kept)) {
        static_cast<Source&>(*this) = *whole_;
        params.flags |= image::flag_tied_output;
        std::erase_if(tensors, [](const SourceTensor& t) { return t.name == "output"; });
        for (SourceTensor& t : tensors)
            if (t.name == "token_embd") t.type = kept_.type;
    }
    Result<std::vector<float>> read(const SourceTensor& t) const override { return whole_->read(stored(t)); }
    Result<std::optional<Codes>> codes(const SourceTensor& t) const override { return whole_->codes(stored(t)); }

  private:
    const SourceTensor& stored(const SourceTensor& t) const { return t.name == "token_embd" ? kept_ : t; }

    std::unique_ptr<Source> whole_;
    SourceTensor kept_;
};

}  // namespace

Result<std::unique_ptr<Source>> with_one_matrix(std::unique_ptr<Source> source) {
    const SourceTensor *embedding = source->find("token_embd"), *output = source->find("output");
    if (embedding == nullptr || output == nullptr || embedding->rows != output->rows || embedding->cols != output->cols)
        return source;
    const std::uint32_t coarser = std::min({bits(*embedding), bits(*output), 8u});
    if (coarser == 0) return source;
    // Rounding moves a normal matrix in groups of 32 by 0.64 * 2^(1 - bits), BF16's by less than that of 8 bits.
    const double most = 1.3 * std::ldexp(1.0, 1 - int(coarser));
    if (distance(TRY(source->read(*embedding)), TRY(source->read(*output))) > most) return source;
    const SourceTensor &kept = bits(*output) >= bits(*embedding) ? *output : *embedding,
                       &left = &kept == output ? *embedding : *output;
    const std::string line = left.name + " (" + left.type + ") is " + kept.name + " (" + kept.type +
                             ") rounded once more: one matrix is kept for both, " + kept.name;
    std::unique_ptr<Source> one = std::make_unique<OneMatrix>(std::move(source), SourceTensor(kept));
    one->warnings.push_back(line);
    return one;
}

}  // namespace slmd::pack
