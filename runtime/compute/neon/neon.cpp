// Plain NEON: every ARMv8 core.
#include "compute/neon/neon.inl"

namespace slmd::compute {
const Kernels neon_level = table_for("neon");
}
