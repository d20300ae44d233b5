// NEON with sdot and smmla: A510, A715, X2, N2 and later.
#define SLMD_DOTPROD
#define SLMD_I8MM
#include "compute/neon/neon.inl"

namespace slmd::compute {
const Kernels i8mm_level = table_for("i8mm");
}
