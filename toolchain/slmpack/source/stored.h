// What every reader ends in: a source whose tensors lie in mapped files, each with its number format.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <span>

#include "base/file.h"
#include "toolchain/slmpack/source.h"
#include "toolchain/slmpack/source/family.h"
#include "toolchain/slmpack/source/tensor_types.h"

namespace slmd::pack {

// The bytes of a file, mapped or (fuzzing, tests) lent.
struct FileBytes {
    std::optional<MappedFile> map;
    std::span<const std::byte> bytes;
    static Result<FileBytes> open(const std::string& path);
};

class FourBit;

// A tensor as it lies in a source's file, checked: inside the file, of a known type, bytes.size() what rows * cols of
// the type take. One in 4 bits whose rows are no run of bytes (GPTQ, AWQ) has `packed` in place of bytes.
struct StoredTensor {
    const TensorType* type;
    std::uint32_t rows, cols;
    std::span<const std::byte> bytes;
    std::shared_ptr<const FourBit> packed{};
    std::uint32_t first_row = 0;                     // of packed
    std::vector<std::span<const std::byte>> runs{};  // of equally many rows each, in place of bytes

    const std::byte* row(std::uint32_t r) const {
        const std::size_t row_bytes = std::size_t(cols / type->block) * type->bytes;
        if (runs.empty()) return bytes.data() + r * row_bytes;
        const std::uint32_t of_run = rows / std::uint32_t(runs.size());
        return runs[r / of_run].data() + r % of_run * row_bytes;
    }
};

// Where row r of query or key in halves order stands in a tensor whose heads have adjacent RoPE pairs.
std::uint32_t row_of_pairs(const image::ModelParams& params, std::uint32_t r);

class StoredSource : public Source {
  public:
    Result<std::vector<float>> read(const SourceTensor& tensor) const override;
    Result<std::optional<Codes>> codes(const SourceTensor& tensor) const override;

    // Takes the tensors that the family expects out of `stored` (by the source's names) and refuses what is missing,
    // misshapen or left over.
    Result<void> take(const Family& family, Form form, std::map<std::string, StoredTensor> stored);
    void add(const std::string& name, const StoredTensor& stored, bool pairs, bool plus_one = false);

    std::vector<FileBytes> files;

  private:
    // The runs of e.parts experts, as one tensor. used: rows that the model has of each source tensor.
    Result<void> take_experts(const Expected& e, const Family& family,
                              const std::map<std::string, StoredTensor>& stored,
                              const std::map<std::string, std::uint64_t>& used);
    struct Place {
        StoredTensor stored;
        bool pairs;     // rows of a head are adjacent RoPE pairs: halves order is restored in read() and codes()
        bool plus_one;  // the file holds the values less 1
    };
    Result<const Place*> place(const SourceTensor& tensor) const;
    std::uint32_t source_row(const Place& p, std::uint32_t r) const { return p.pairs ? row_of_pairs(params, r) : r; }
    std::map<std::string, Place> places_;
};

// The readers. `path` names the source; the bytes may come from elsewhere.
// A file that is the first part of a split one (llama-gguf-split) opens the others, which lie beside it.
Result<std::unique_ptr<Source>> open_gguf(FileBytes file, const std::string& path);
// All parts in order, each with its name.
Result<std::unique_ptr<Source>> open_gguf(std::vector<std::pair<std::string, FileBytes>> parts,
                                          const std::string& path);
Result<std::unique_ptr<Source>> open_llama2c(FileBytes file, const std::string& path);
// The tensors that each file holds, by the file's name.
using ShardIndex = std::map<std::string, std::vector<std::string>>;
// config: the text of config.json; shards: the safetensors files, each with its name; index: what they should hold,
// empty when there is none.
Result<std::unique_ptr<Source>> open_hugging_face(std::string_view config,
                                                  std::vector<std::pair<std::string, FileBytes>> shards,
                                                  const std::string& path, const ShardIndex& index = {});
Result<std::unique_ptr<Source>> open_hugging_face(const std::string& folder);

}  // namespace slmd::pack
