// The float operations, written once over V16 and compiled once a level. NUMERICS.md states each; nothing here may
// depend on the width of a register. The level provides V16, dot_positions(), heads_together, values_together (the
// heads, and the 16 columns of V, that share a sweep) and rows_together (vectors of product(), a power of two) before
// including this.

namespace {

// Below this a group is all zeros: 127 / peak must stay finite.
constexpr float smallest_peak = 1e-30f;

inline float max_of(float a, float b) { return a > b ? a : b; }

// e^x with x clamped to [-87.3, 88]: x = n ln2 + r, degree-5 polynomial in r (Cephes expf), relative error below 2e-7.
[[gnu::always_inline]] inline V16 exp16(V16 x) {
    x = min(max(x, set16(-87.3f)), set16(88.0f));
    const V16 round = set16(12582912.0f);
    const V16 magic = fma(x, set16(1.44269504088896341f), round);
    const V16 n = sub(magic, round);
    V16 r = fma(n, set16(-0.693359375f), x);
    r = fma(n, set16(2.12194440e-4f), r);
    V16 p = fma(set16(1.9875691500e-4f), r, set16(1.3981999507e-3f));
    p = fma(p, r, set16(8.3334519073e-3f));
    p = fma(p, r, set16(4.1665795894e-2f));
    p = fma(p, r, set16(1.6666665459e-1f));
    p = fma(p, r, set16(5.0000001201e-1f));
    p = fma(p, mul(r, r), add(r, set16(1.0f)));
    return scale_exponent(p, magic);
}

// x / (1 + e^-y): the logistic function of y gates x.
[[gnu::always_inline]] inline V16 gated16(V16 x, V16 y) { return div(x, add(set16(1.0f), exp16(sub(set16(0), y)))); }

// cap * tanh(x / cap) = cap * (1 - 2 / (e^(2 x / cap) + 1)), absolute error below 2e-7 cap.
inline V16 cap16(V16 x, float cap) {
    const V16 e = exp16(mul(x, set16(2.0f / cap)));
    return mul(set16(cap), sub(set16(1.0f), div(set16(2.0f), add(e, set16(1.0f)))));
}

// One group of 32.
inline void quantize_group(const V16& a, const V16& b, std::int8_t* q, float& scale, std::int32_t& sum) {
    const float peak = max16(max(abs(a), abs(b)));
    const V16 inverse = set16(peak > smallest_peak ? 127.0f / peak : 0.0f);
    const I16 qa = to_int(mul(a, inverse)), qb = to_int(mul(b, inverse));
    store_i8(q, qa);
    store_i8(q + 16, qb);
    scale = peak / 127.0f;
    sum = sum_int(qa) + sum_int(qb);
}

void quantize_groups(const float* x, int n, std::int8_t* q, float* scale, std::int32_t* sum) {
    for (int g = 0; g < n / group; g++, x += group, q += group)
        quantize_group(load16(x), load16(x + 16), q, scale[g], sum[g]);
}

// 1 / sqrt(mean(x^2) + eps)
inline V16 rms_factor(const float* x, int n, float eps) {
    V16 squares = set16(0);
    for (int i = 0; i < n; i += 16) {
        const V16 v = load16(x + i);
        squares = fma(v, v, squares);
    }
    return set16(1.0f / __builtin_sqrtf(sum16(squares) / static_cast<float>(n) + eps));
}

void rms_norm(const float* x, const float* w, int n, float eps, float* y) {
    const V16 factor = rms_factor(x, n, eps);
    for (int i = 0; i < n; i += 16) store16(y + i, mul(mul(load16(x + i), factor), load16(w + i)));
}

void rms_norm_quantize(const float* x, const float* w, int n, float eps, std::int8_t* q, float* scale,
                       std::int32_t* sum) {
    const V16 factor = rms_factor(x, n, eps);
    for (int g = 0; g < n / group; g++, x += group, w += group, q += group)
        quantize_group(mul(mul(load16(x), factor), load16(w)), mul(mul(load16(x + 16), factor), load16(w + 16)), q,
                       scale[g], sum[g]);
}

void rope_halves(float* head, const float* cos, const float* sin, int pairs) {
    int i = 0;
    for (; i + 16 <= pairs; i += 16) {
        const V16 a = load16(head + i), b = load16(head + i + pairs), c = load16(cos + i), s = load16(sin + i);
        store16(head + i, fma(a, c, neg(mul(b, s))));
        store16(head + i + pairs, fma(b, c, mul(a, s)));
    }
    for (; i < pairs; i++) {
        const float a = head[i], b = head[i + pairs], c = cos[i], s = sin[i];
        head[i] = __builtin_fmaf(a, c, -(b * s));
        head[i + pairs] = __builtin_fmaf(b, c, a * s);
    }
}

void hadamard_blocks(float* x, int n) {
    const int size = n & -n;
    for (float* end = x + n; x < end; x += size) {
        int h = 1;
        if (size >= 16) {  // strides 1 to 8 stay within a V16
            for (int i = 0; i < size; i += 16) store16(x + i, butterflies(load16(x + i)));
            for (h = 16; h < size; h *= 2)
                for (int i = 0; i < size; i += 2 * h)
                    for (int j = i; j < i + h; j += 16) {
                        const V16 a = load16(x + j), b = load16(x + j + h);
                        store16(x + j, add(a, b));
                        store16(x + j + h, sub(a, b));
                    }
        }
        for (; h < size; h *= 2)
            for (int i = 0; i < size; i += 2 * h)
                for (int j = i; j < i + h; j++) {
                    const float a = x[j], b = x[j + h];
                    x[j] = a + b;
                    x[j + h] = a - b;
                }
    }
}

// x and q have room for n rounded up to 16; x is zero there.
float quantize_vector(const float* x, int n, std::int8_t* q) {
    V16 peaks = set16(0);
    for (int i = 0; i < n; i += 16) peaks = max(peaks, abs(load16(x + i)));
    const float peak = max16(peaks);
    const V16 inverse = set16(peak > smallest_peak ? 127.0f / peak : 0.0f);
    for (int i = 0; i < n; i += 16) store_i8(q + i, to_int(mul(load16(x + i), inverse)));
    return peak / 127.0f;
}

// out[r][d] = sum over positions, ascending, of weight[r][p] * v[p][d], for R heads and 16 * D dimensions.
template <int R, int D>
void weigh_values(const std::int8_t* v, int stride, int n, const float* weight, float* out, int out_stride) {
    V16 acc[R][D];
    each<R>([&](auto r) { each<D>([&](auto d) { acc[r][d] = set16(0); }); });
    for (int p = 0; p < n; p++, v += stride) {
        V16 value[D];
        each<D>([&](auto d) { value[d] = load_i8(v + 16 * d); });
        each<R>([&](auto r) __attribute__((always_inline)) {
            const V16 w = set16(weight[r * chunk + p]);
            each<D>([&](auto d) __attribute__((always_inline)) { acc[r][d] = fma(w, value[d], acc[r][d]); });
        });
    }
    each<R>([&](auto r) { each<D>([&](auto d) { store16(out + r * out_stride + 16 * d, acc[r][d]); }); });
}

// out: [R][v_stride + partial_extra]
template <int R>
void weigh_heads(const KvHead& kv, int first, int n, const float* weight, float* out) {
    const std::int8_t* v = kv.v + static_cast<std::size_t>(first) * static_cast<std::size_t>(kv.v_stride);
    const int out_stride = kv.v_stride + partial_extra;
    constexpr int D = values_together;
    int d = 0;
    for (; d + 16 * D <= kv.v_stride; d += 16 * D)
        weigh_values<R, D>(v + d, kv.v_stride, n, weight, out + d, out_stride);
    for (; d < kv.v_stride; d += 16) weigh_values<R, 1>(v + d, kv.v_stride, n, weight, out + d, out_stride);
}

// Scores of R heads with positions [begin, end) of one chunk, which starts at slot `slot`: weight[r][p], p from the
// chunk's first position. What lies outside in the first and last block of 16 repeats a score that is inside, so that
// it changes no maximum.
template <int R>
void score_positions(const KvHead& kv, int slot, int begin, int end, const std::int8_t* q, const float* q_scale,
                     float soft_cap, float* weight) {
    for (int p = begin & ~(kv_block - 1); p < end; p += kv_block) {
        alignas(64) std::int32_t dots[R * kv_block];
        dot_positions<R>(kv.k + static_cast<std::size_t>(slot + p) * static_cast<std::size_t>(kv.head_dim), kv.head_dim,
                         q, kv.v_stride, dots);
        const V16 k_scale = load16(kv.k_scale + slot + p);
        for (int r = 0; r < R; r++) {
            V16 s = mul(load_i32(dots + r * kv_block), mul(set16(q_scale[r]), k_scale));
            if (soft_cap != 0) s = cap16(s, soft_cap);
            store16(weight + r * chunk + p, s);
        }
    }
    for (int r = 0; r < R; r++) {
        float* s = weight + r * chunk;
        for (int p = begin & ~15; p < begin; p++) s[p] = s[begin];
        for (int p = end; p < ((end + 15) & ~15); p++) s[p] = s[begin];
    }
}

// weight[p] = exp(score - peak) * v_scale over positions [begin, end) of a chunk; the sum of the exponentials goes to
// total.
inline float weigh_scores(const float* v_scale, int begin, int end, float* weight, float& total) {
    const int first = begin & ~15, padded = (end + 15) & ~15;
    V16 peaks = load16(weight + first);
    for (int p = first + 16; p < padded; p += 16) peaks = max(peaks, load16(weight + p));
    const float peak = max16(peaks);
    const V16 top = set16(peak);
    for (int p = first; p < padded; p += 16) store16(weight + p, exp16(sub(load16(weight + p), top)));
    for (int p = first; p < begin; p++) weight[p] = 0;
    for (int p = end; p < padded; p++) weight[p] = 0;
    V16 sums = set16(0);
    for (int p = first; p < padded; p += 16) {
        const V16 e = load16(weight + p);
        sums = add(sums, e);
        store16(weight + p, mul(e, load16(v_scale + p)));
    }
    total = sum16(sums);
    return peak;
}

// into and next: v_stride sums, then the largest score and the total of the exponentials.
void merge_chunk(float* into, const float* next, int v_stride) {
    const float peak = into[v_stride], next_peak = next[v_stride], top = max_of(peak, next_peak);
    const V16 factor = exp16(set16(peak - top)), next_factor = exp16(set16(next_peak - top));
    float factors[32];
    store16(factors, factor);
    store16(factors + 16, next_factor);
    for (int d = 0; d < v_stride; d += 16)
        store16(into + d, fma(load16(into + d), factor, mul(load16(next + d), next_factor)));
    into[v_stride] = top;
    into[v_stride + 1] = __builtin_fmaf(into[v_stride + 1], factors[0], next[v_stride + 1] * factors[16]);
}

// R heads of one KV head share the loads of K and V. Chunks lie at multiples of 128 positions.
template <int R>
void attend_heads(const KvHead& kv, Visible see, const std::int8_t* q, const float* q_scale, float* out,
                  float* weight) {
    const int start = see.begin & ~(chunk - 1), stride = kv.v_stride + partial_extra;
    float next[R * (max_head_dim + partial_extra)];
    for (int first = start; first < see.end; first += chunk) {
        const int slot = first % kv.capacity, begin = first < see.begin ? see.begin - first : 0,
                  end = see.end - first < chunk ? see.end - first : chunk;
        float* const o = first == start ? out : next;
        score_positions<R>(kv, slot, begin, end, q, q_scale, see.soft_cap, weight);
        for (int r = 0; r < R; r++) {
            float* const extra = o + r * stride + kv.v_stride;
            extra[0] = weigh_scores(kv.v_scale + slot, begin, end, weight + r * chunk, extra[1]);
        }
        weigh_heads<R>(kv, slot + begin, end - begin, weight + begin, o);
        for (int r = 0; r < R && first != start; r++) merge_chunk(out + r * stride, next + r * stride, kv.v_stride);
    }
}

void attend(const KvHead& kv, Visible see, const std::int8_t* q, const float* q_scale, int heads, float* out,
            float* scratch) {
    while (heads > 0) {
        const int together = heads < heads_together ? heads : heads_together;
        switch (together) {
            case 4:
                if constexpr (heads_together >= 4) attend_heads<4>(kv, see, q, q_scale, out, scratch);
                break;
            case 3:
                if constexpr (heads_together >= 3) attend_heads<3>(kv, see, q, q_scale, out, scratch);
                break;
            case 2:
                if constexpr (heads_together >= 2) attend_heads<2>(kv, see, q, q_scale, out, scratch);
                break;
            default: attend_heads<1>(kv, see, q, q_scale, out, scratch); break;
        }
        heads -= together;
        q += together * kv.v_stride;
        q_scale += together;
        out += together * (kv.v_stride + partial_extra);
    }
}

void silu_mul(const float* gate, const float* up, int n, float* y) {
    for (int i = 0; i < n; i += 16) {
        const V16 x = load16(gate + i);
        store16(y + i, mul(gated16(x, x), load16(up + i)));
    }
}

// The tanh form: x / 2 * (1 + tanh(u)) = x / (1 + e^(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
void gelu_mul(const float* gate, const float* up, int n, float* y) {
    for (int i = 0; i < n; i += 16) {
        const V16 x = load16(gate + i);
        const V16 u = mul(x, fma(mul(x, x), set16(0.071354816f), set16(1.5957691f)));
        store16(y + i, mul(gated16(x, u), load16(up + i)));
    }
}

// x Phi(x) with Phi's tail Q = e^(-x^2 / 2) t (a1 + t (a2 + t (a3 + t (a4 + t a5)))) / 2, t = 1 / (1 + p |x|)
// (Abramowitz and Stegun, 7.1.26, absolute error below 1e-7): x above 0 is x - x Q, below x Q.
void gelu(float* x, int n) {
    for (int i = 0; i < n; i += 16) {
        const V16 v = load16(x + i), a = abs(v);
        const V16 t = div(set16(1.0f), fma(a, set16(0.23164189f), set16(1.0f)));
        V16 p = fma(t, set16(0.530702714f), set16(-0.726576014f));
        p = fma(p, t, set16(0.710706870f));
        p = fma(p, t, set16(-0.142248368f));
        p = fma(p, t, set16(0.127414796f));
        const V16 q = mul(mul(p, t), exp16(mul(mul(a, a), set16(-0.5f))));
        store16(x + i, fma(neg(a), q, max(v, set16(0))));
    }
}

// (x - mean) / sqrt(mean of its squares + eps) * w + b
void layer_norm(const float* x, const float* w, const float* b, int n, float eps, float* y) {
    V16 sums = set16(0), squares = set16(0);
    for (int i = 0; i < n; i += 16) sums = add(sums, load16(x + i));
    const V16 mean = set16(sum16(sums) / static_cast<float>(n));
    for (int i = 0; i < n; i += 16) {
        const V16 d = sub(load16(x + i), mean);
        squares = fma(d, d, squares);
    }
    const V16 factor = set16(1.0f / __builtin_sqrtf(sum16(squares) / static_cast<float>(n) + eps));
    for (int i = 0; i < n; i += 16)
        store16(y + i, fma(mul(sub(load16(x + i), mean), factor), load16(w + i), load16(b + i)));
}

template <int T>
void product_tile(const float* w, std::size_t ldw, int k, const float* x, std::size_t ldx, float* y, std::size_t ldy) {
    V16 acc[T];
    each<T>([&](auto t) { acc[t] = set16(0); });
    for (int i = 0; i < k; i++, w += ldw) {
        const V16 column = load16(w);
        each<T>([&](auto t) __attribute__((always_inline)) {
            acc[t] = fma(set16(x[t * ldx + static_cast<std::size_t>(i)]), column, acc[t]);
        });
    }
    each<T>([&](auto t) { store16(y + t * ldy, acc[t]); });
}

void product(const float* w, std::size_t ldw, int k, const float* x, std::size_t ldx, int tokens, float* y,
             std::size_t ldy) {
    while (tokens > 0) {
        int together = rows_together;
        while (together > tokens) together /= 2;
        switch (together) {
            case 8:
                if constexpr (rows_together >= 8) product_tile<8>(w, ldw, k, x, ldx, y, ldy);
                break;
            case 4:
                if constexpr (rows_together >= 4) product_tile<4>(w, ldw, k, x, ldx, y, ldy);
                break;
            case 2:
                if constexpr (rows_together >= 2) product_tile<2>(w, ldw, k, x, ldx, y, ldy);
                break;
            default: product_tile<1>(w, ldw, k, x, ldx, y, ldy); break;
        }
        tokens -= together;
        x += static_cast<std::size_t>(together) * ldx;
        y += static_cast<std::size_t>(together) * ldy;
    }
}

float exponentials(float* s, int n) {
    const int padded = (n + 15) & ~15;
    for (int i = n; i < padded; i++) s[i] = s[0];
    V16 peaks = load16(s);
    for (int i = 16; i < padded; i += 16) peaks = max(peaks, load16(s + i));
    const V16 top = set16(max16(peaks));
    for (int i = 0; i < padded; i += 16) store16(s + i, exp16(sub(load16(s + i), top)));
    for (int i = n; i < padded; i++) s[i] = 0;
    V16 sums = set16(0);
    for (int i = 0; i < padded; i += 16) sums = add(sums, load16(s + i));
    return sum16(sums);
}

void add_to(float* x, const float* y, float factor, int n) {
    for (int i = 0; i < n; i += 16) store16(x + i, fma(load16(y + i), set16(factor), load16(x + i)));
}

void cap_all(float* x, float factor, float cap, int n) {
    for (int i = 0; i < n; i += 16) {
        const V16 v = mul(load16(x + i), set16(factor));
        store16(x + i, cap != 0 ? cap16(v, cap) : v);
    }
}

constexpr Kernels table_for(const char* name) {
    return {name,
            matmul<Format::i4>,
            matmul<Format::i4a>,
            matmul<Format::i6>,
            matmul<Format::i8>,
            quantize_groups,
            rms_norm,
            rms_norm_quantize,
            rope_halves,
            hadamard_blocks,
            quantize_vector,
            attend,
            merge_chunk,
            silu_mul,
            gelu_mul,
            add_to,
            cap_all,
            gelu,
            layer_norm,
            product,
            exponentials};
}

}  // namespace
