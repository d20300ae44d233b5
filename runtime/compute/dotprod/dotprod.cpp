// NEON with sdot: A55, A76 and later.
#define SLMD_DOTPROD
#include "compute/neon/neon.inl"

namespace slmd::compute {
const Kernels dotprod_level = table_for("dotprod");
}
