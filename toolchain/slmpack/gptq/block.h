// One layer in float32, forwards with a place to stop before each matrix, and backwards.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "toolchain/slmpack/reference/layer.h"
#include "toolchain/slmpack/source.h"

namespace slmd::pack {

// Sums of squares of the gradient at a matrix's outputs, over all positions seen: by the tensor's name, one value a
// row.
using Sensitivity = std::map<std::string, std::vector<double>>;

class Block {
  public:
    // Of a mixture: the positions that go to each expert, and what its answer counts there.
    struct Route {
        std::vector<std::vector<long>> positions;
        std::vector<std::vector<float>> shares;
    };

    // Holds the layer's weights. The source must outlive it. Errors: those of the source.
    static Result<Block> open(const Source& source, std::uint32_t layer);

    // Parameter `hidden`: [positions x dim] of one sequence from its start, before the layer.
    Matrix attention_input(const Matrix& hidden) const;              // of attn_q, attn_k and attn_v
    Matrix output_input(const Matrix& attention_input) const;        // of attn_output: the values, mixed by attention
    void add_attention(Matrix& hidden, const Matrix& mixed) const;   // through attn_output to the residual
    Matrix feed_input(const Matrix& hidden) const;                   // of ffn_gate and ffn_up; after add_attention()
    Matrix down_input(const Matrix& feed_input) const;               // of ffn_down
    void add_feed(Matrix& hidden, const Matrix& activations) const;  // through ffn_down to the residual
    void forward(Matrix& hidden) const;                              // all of it, experts too

    // Of a mixture of experts, in place of down_input() and add_feed().
    bool is_mixture() const { return source_->params.experts != 0; }
    Route route(const Matrix& feed_input) const;
    // Of one expert's part of ffn_down_exps, for the positions that `part` holds of feed_input.
    Matrix expert_down_input(std::size_t expert, const Matrix& part) const;
    void add_experts(Matrix& hidden, const Matrix& feed_input) const;

    // The gradient before the layer, from the one behind it; `hidden` is what went in.
    Matrix backward(const Matrix& hidden, const Matrix& gradient, Sensitivity& sensitivity) const;

    // The full name, "blk.0.attn_q". replace() takes rows x cols values in place of a matrix.
    std::string full(const std::string& name) const { return prefix_ + name; }
    const std::vector<float>& weight(const std::string& name) const { return weights_.at(name); }
    void replace(const std::string& name, std::vector<float> values) { weights_.at(name) = std::move(values); }
    long rows(const std::string& name) const { return long(weight(name).size()) / cols_.at(name); }
    long cols(const std::string& name) const { return cols_.at(name); }
    // Values of one expert's part of a matrix, rows(name) / experts of them.
    const float* part(const std::string& name, std::size_t expert) const {
        return weight(name).data() + long(expert) * part_rows(name) * cols(name);
    }
    long part_rows(const std::string& name) const { return rows(name) / long(source_->params.experts); }

  private:
    struct Heads;
    Matrix normed(const Matrix& x, const std::string& name) const;
    Matrix norm_backward(const Matrix& x, const std::string& name, const Matrix& gradient) const;
    Matrix through(const Matrix& x, const std::string& name) const {
        return linear(x, weight(name).data(), rows(name));
    }
    Matrix back_through(const Matrix& gradient, const std::string& name, Sensitivity& sensitivity) const;
    Matrix back_through(const Matrix& gradient, const std::string& name, long first, long rows,
                        Sensitivity& sensitivity) const;
    Matrix shares(const Matrix& logits) const;
    Matrix experts(const Matrix& feed_input) const;
    Matrix experts_backward(const Matrix& feed_input, const Matrix& gradient, Sensitivity& sensitivity) const;
    bool gelu() const { return (source_->params.flags & image::flag_gelu) != 0; }
    Matrix projected(const Matrix& x, const std::string& name) const;
    Heads heads(const Matrix& x) const;
    Matrix scores(const Heads& heads, long head, Matrix* before_cap) const;
    const std::vector<float>& inv_freq() const;

    const Source* source_ = nullptr;
    std::uint32_t layer_ = 0;
    std::string prefix_;
    std::map<std::string, std::vector<float>> weights_;
    std::map<std::string, long> cols_;
};

// Some rows of a matrix.
Matrix picked(const Matrix& m, const std::vector<long>& rows);

}  // namespace slmd::pack
