// The tables that this build contains; levels.cpp picks among them.
#pragma once
#include "compute/kernels.h"

namespace slmd::compute {

extern const Kernels scalar_level, avx2_level, avx512_level, neon_level, dotprod_level, i8mm_level;

}  // namespace slmd::compute
