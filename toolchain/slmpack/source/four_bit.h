// Linear layers in 4 bits as GPTQ and AWQ checkpoints store them: value = (code - zero) x scale. Codes and zeros are
// eight to an int32 word; a zero and a scale belong to an output and a group of inputs. Layouts: GPTQModel and AutoGPTQ
// (nn_modules/qlinear), AutoAWQ (WQLinear_GEMM). The files are hostile.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "toolchain/slmpack/source/stored.h"

namespace slmd::pack {

struct FourBitConfig {
    // gptq: codes run along the inputs, zeros are stored less 1; gptq_v2: zeros as they are; awq: codes run along the
    // outputs, in the order 0 2 4 6 1 3 5 7.
    enum class Layout { gptq, gptq_v2, awq } layout;
    std::uint32_t group;  // inputs that share a scale; 0: all of them
};

// quantization_config of config.json. not_supported names the method, the format or the bits.
Result<FourBitConfig> read_four_bit_config(const nlohmann::json& config);

class FourBit {
  public:
    // NAME.qweight, NAME.qzeros, NAME.scales and, where there is one, NAME.g_idx. Errors name the tensor.
    static Result<FourBit> open(const FourBitConfig& config, const std::string& name,
                                const std::map<std::string, StoredTensor>& stored);

    const TensorType* type() const;
    std::uint32_t rows() const { return rows_; }  // outputs
    std::uint32_t cols() const { return cols_; }  // inputs
    // Codes can go into the image as they are: groups are contiguous and multiples of the image's.
    bool keeps_codes() const { return groups_.empty() && group_ % 32 == 0 && cols_ % 32 == 0; }

    std::vector<float> read(std::uint32_t first_row, std::uint32_t count) const;
    // i4a: the codes unchanged, -zero x scale rounded to f16 (half a unit in the last place: 1/136 of a code's step at
    // most), scales too when they are not f16 already. Nullopt: not keeps_codes(), or a number beyond f16.
    std::optional<Codes> codes(std::uint32_t first_row, std::uint32_t count) const;

  private:
    std::vector<std::int8_t> unpack(std::uint32_t first_row, std::uint32_t count) const;
    int zero(std::size_t group, std::uint32_t row) const;
    float scale(std::size_t group, std::uint32_t row) const;

    FourBitConfig::Layout layout_{};
    std::uint32_t rows_ = 0, cols_ = 0, group_ = 0;
    std::span<const std::byte> words_, zeros_;
    StoredTensor scales_{};
    std::vector<std::uint32_t> groups_;  // of every input; empty: input / group_
};

// Replaces the parts of every quantized layer by its NAME.weight, and takes away the biases of zeros that AutoGPTQ
// writes for layers that have none (`has_bias`: the model has this one). Adds to `warnings` what cannot keep its codes.
Result<void> join_four_bit(const FourBitConfig& config, const std::function<bool(const std::string&)>& has_bias,
                           std::map<std::string, StoredTensor>& stored, std::vector<std::string>& warnings);

}  // namespace slmd::pack
