// The linear algebra that is worth a CPU level.
#pragma once

namespace slmd::pack {

// y = x w^T in float32: x [n x k], w [m x k], y [n x m], all row-major.
using Product = void (*)(const float* x, const float* w, float* y, long n, long m, long k);
// h [n x n], symmetric and positive definite, becomes U, upper triangular, with U^T U = h^-1. False when it is not.
using InverseFactor = bool (*)(double* h, long n);

void product_baseline(const float* x, const float* w, float* y, long n, long m, long k);
bool inverse_factor_baseline(double* h, long n);
#ifdef __x86_64__
void product_avx2(const float* x, const float* w, float* y, long n, long m, long k);
void product_avx512(const float* x, const float* w, float* y, long n, long m, long k);
bool inverse_factor_avx2(double* h, long n);
bool inverse_factor_avx512(double* h, long n);
#endif

}  // namespace slmd::pack
