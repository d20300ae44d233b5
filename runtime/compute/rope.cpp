// Angles of the rotary embedding in double precision with our own polynomials: the same bits everywhere, and exact enough at any position.
#include "compute/kernels.h"

namespace slmd::compute {

void rope_angles(int position, const float* inv_freq, int pairs, float* cos, float* sin) {
    constexpr double two_over_pi = 0.63661977236758134308;
    constexpr double pio2_hi = 1.57079632673412561417e+00, pio2_lo = 6.07710050650619224932e-11;  // fdlibm's split
    for (int i = 0; i < pairs; i++) {
        // The product is rounded to f32, as the published models were trained.
        const double x = static_cast<double>(static_cast<float>(position) * inv_freq[i]);
        const long quadrant = static_cast<long>(x * two_over_pi + 0.5);  // NOLINT(bugprone-incorrect-roundings): x >= 0
        const double n = static_cast<double>(quadrant);
        const double r = (x - n * pio2_hi) - n * pio2_lo, z = r * r;
        // fdlibm's kernels on [-pi/4, pi/4], error below 1e-16
        const double s = r + r * z * (-1.66666666666666324348e-01 + z * (8.33333333332248946124e-03 + z * (-1.98412698298579493134e-04 + z * (2.75573137070700676789e-06 + z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
        const double c = 1.0 - 0.5 * z + z * z * (4.16666666666666019037e-02 + z * (-1.38888888888741095749e-03 + z * (2.48015872894767294178e-05 + z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
        switch (quadrant & 3) {
            case 0: cos[i] = static_cast<float>(c), sin[i] = static_cast<float>(s); break;
            case 1: cos[i] = static_cast<float>(-s), sin[i] = static_cast<float>(c); break;
            case 2: cos[i] = static_cast<float>(-c), sin[i] = static_cast<float>(-s); break;
            default: cos[i] = static_cast<float>(s), sin[i] = static_cast<float>(-c); break;
        }
    }
}

}  // namespace slmd::compute
