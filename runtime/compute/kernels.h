// The kernels of one CPU level: a table of function pointers, filled once, the only dispatch. NUMERICS.md defines every
// operation; all levels give the same bits. Kernels are leaves: they never allocate, lock, log or check.
#pragma once
#include <cstddef>
#include <cstdint>

namespace slmd::compute {

constexpr int group = 32;  // columns that share a scale
constexpr int block = 8;   // rows that lie together
constexpr int lanes = 16;  // virtual lanes of every float sum
// Of NUMERICS.md: another one wherever a bit of K or V may be another, so that what was kept of them is not used.
constexpr std::uint32_t numerics_version = 1;
constexpr int kv_block = 16;  // positions that lie together in the K cache
constexpr int chunk = 128;    // positions of one partial softmax
constexpr int max_head_dim = 256;
constexpr int partial_extra = 16;  // floats behind the sums of an attention that is not complete: two, and alignment

// A weight matrix as it lies in the image (image/format.h, R4K8-g32). cols is a multiple of 32, rows of 8 (padding rows
// have scale or step 0).
struct Matrix {
    int rows, cols;
    const std::uint8_t* codes;
    const std::uint8_t* scales;
    const float* steps;                  // i4: one a row
    const std::int8_t* book;             // i4: 16 levels
    const std::uint8_t* high = nullptr;  // i6: two high bits of each code
};

// Activations in 8 bits: value = q * scale[group].
struct Quantized {
    std::int8_t* q;     // [tokens, stride]
    float* scale;       // [tokens, stride / 32]
    std::int32_t* sum;  // [tokens, stride / 32], sum of q over the group
    int stride;         // columns of a token, a multiple of 32
};

// Rows [8 * begin, 8 * end) of matrix times each of `tokens` vectors: y[t * ldy + row].
using Matmul = void (*)(const Matrix& w, int begin, int end, const Quantized& x, int tokens, float* y, std::size_t ldy);

// The cache of one KV head in one layer. Position p lies at slot p % capacity. K in blocks of 16 slots, [head_dim /
// 4][16][4] bytes each; V [slot][v_stride].
struct KvHead {
    std::int8_t* k;
    float* k_scale;  // [capacity]
    std::int8_t* v;
    float* v_scale;
    int head_dim, v_stride;  // v_stride: head_dim rounded up to 16
    int capacity;  // slots: the context rounded up to 16, or a ring of whole chunks that holds a layer's window
};

// What a query sees.
struct Visible {
    int begin, end;  // positions
    float soft_cap;  // scores become cap * tanh(score / cap); 0: they stay
};

struct Kernels {
    const char* name;
    Matmul i4, i4a, i6, i8;

    // q[n], scale, sum of one vector; n a multiple of 32.
    void (*quantize)(const float* x, int n, std::int8_t* q, float* scale, std::int32_t* sum);
    // y = x / sqrt(mean(x^2) + eps) * w
    void (*rms_norm)(const float* x, const float* w, int n, float eps, float* y);
    // The same, quantized at once.
    void (*rms_norm_quantize)(const float* x, const float* w, int n, float eps, std::int8_t* q, float* scale,
                              std::int32_t* sum);
    // Rotates the first 2 * pairs elements of a head in halves: (i, i + pairs).
    void (*rope)(float* head, const float* cos, const float* sin, int pairs);
    // Hadamard butterfly over blocks of the largest power of two that divides n, without its scale factor.
    void (*hadamard)(float* head, int n);
    // int8 with one scale for the whole vector; returns the scale.
    float (*quantize_head)(const float* x, int n, std::int8_t* q);
    // Attention of `heads` query vectors (int8 [heads, v_stride], q_scale includes 1 / sqrt(head_dim)) over what they
    // see of one KV head, at least one position. out f32 [heads, v_stride + partial_extra]: the sums not yet divided by
    // the total, then the largest score and the total; scratch: 4 * chunk floats.
    void (*attend)(const KvHead& kv, Visible see, const std::int8_t* q, const float* q_scale, int heads, float* out,
                   float* scratch);
    // What one query has of the chunks up to some position, and of the chunk that follows: into becomes both.
    void (*merge)(float* into, const float* next, int v_stride);
    // The gates of a feed-forward: y = silu(gate) * up, y = gelu(gate) * up. n here and below: a multiple of 16.
    void (*silu_mul)(const float* gate, const float* up, int n, float* y);
    void (*gelu_mul)(const float* gate, const float* up, int n, float* y);
    // x += y * factor
    void (*add)(float* x, const float* y, float factor, int n);
    // x = x * factor, then cap * tanh(x / cap) unless cap is 0.
    void (*cap)(float* x, float factor, float cap, int n);

    // Of encoders, in f32. x = gelu(x), exactly: x Phi(x).
    void (*gelu)(float* x, int n);
    // y = (x - mean) / sqrt(variance + eps) * w + b
    void (*layer_norm)(const float* x, const float* w, const float* b, int n, float eps, float* y);
    // 16 columns of a product: y[t * ldy + j] = sum of x[t * ldx + i] * w[i * ldw + j] over i < k.
    void (*product)(const float* w, std::size_t ldw, int k, const float* x, std::size_t ldx, int tokens, float* y,
                    std::size_t ldy);
    // s[i] = e^(s[i] - max), and 0 up to the next multiple of 16, where s has room; returns their sum. n: at least 1.
    float (*exponentials)(float* s, int n);
};

constexpr int panel = 16;  // rows of an f32 matrix that lie together, [columns][16]

// The levels that this machine can run, best first; null-terminated.
const Kernels* const* levels();
// By name ("scalar", "avx2", ...); null when unknown or not available here.
const Kernels* find_level(const char* name);

// One row of a matrix as floats, exactly: book[code] * (scale * step), code * scale + minimum, code * scale (i6,
// i8). For embeddings.
void row_i4(const Matrix& w, int row, float* out);
void row_i4a(const Matrix& w, int row, float* out);
void row_i6(const Matrix& w, int row, float* out);
void row_i8(const Matrix& w, int row, float* out);

// cos and sin of position * inv_freq[i], each f32 [pairs]: double precision, our own polynomials, the same everywhere.
void rope_angles(int position, const float* inv_freq, int pairs, float* cos, float* sin);

}  // namespace slmd::compute
