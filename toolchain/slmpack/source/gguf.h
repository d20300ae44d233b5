// The GGUF container (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), versions 2 and 3, little endian. The
// file is hostile.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "toolchain/slmpack/source/tensor_types.h"

namespace slmd::pack {

class Gguf {
  public:
    enum Type : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64, type_count };
    struct Tensor {
        const TensorType* type;
        std::vector<std::uint64_t> dims;  // dims[0] is the fastest: a row
        std::span<const std::byte> bytes;
    };

    // Everything is bounded here: counts, lengths, alignment, types, dimensions, places of tensors. Errors
    // (model_format) name the key or tensor and the offset. The bytes must outlive the object.
    static Result<Gguf> open(std::span<const std::byte> bytes);

    std::uint32_t version() const { return version_; }
    const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
    bool has(std::string_view key) const { return keys_.contains(key); }
    bool is_array(std::string_view key) const {
        const auto found = keys_.find(key);
        return found != keys_.end() && found->second.type == array;
    }
    // nullopt: no such key. An error: it has another type.
    Result<std::optional<double>> number(std::string_view key) const;  // any integer, float or bool
    Result<std::optional<std::string>> text(std::string_view key) const;
    Result<std::vector<std::string>> texts(std::string_view key) const;  // empty when absent
    Result<std::vector<double>> numbers(std::string_view key) const;

  private:
    struct Value {
        Type type, element;  // element and count: of an array
        std::uint64_t count;
        std::size_t offset;  // of the value's first byte, behind an array's head
    };
    Result<const Value*> find(std::string_view key, bool is_array, bool is_text, const char* wanted) const;
    double number_at(Type type, std::size_t offset) const;

    std::span<const std::byte> bytes_;
    std::uint32_t version_ = 0;
    std::map<std::string, Value, std::less<>> keys_;
    std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace slmd::pack
