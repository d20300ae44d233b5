// y = x w^T in float32: x [n x k], w [m x k], y [n x m], all row-major.
#pragma once

namespace slmd::pack {

using Product = void (*)(const float* x, const float* w, float* y, long n, long m, long k);

void product_baseline(const float* x, const float* w, float* y, long n, long m, long k);
#ifdef __x86_64__
void product_avx2(const float* x, const float* w, float* y, long n, long m, long k);
void product_avx512(const float* x, const float* w, float* y, long n, long m, long k);
#endif

}  // namespace slmd::pack
