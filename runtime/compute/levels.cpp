#include "compute/levels.h"

#include <cstring>

#if defined(__aarch64__)
#include <sys/auxv.h>
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1 << 20)
#endif
#ifndef HWCAP2_I8MM
#define HWCAP2_I8MM (1 << 13)
#endif
#endif

namespace slmd::compute {
namespace {

struct Available {
    const Kernels* list[6] = {};
    Available() {
        int n = 0;
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni"))
            list[n++] = &avx512_level;
        // F16C is not asked for: clang cannot, and every CPU with AVX2 and FMA has it.
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) list[n++] = &avx2_level;
#elif defined(__aarch64__)
        if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) && (getauxval(AT_HWCAP2) & HWCAP2_I8MM)) list[n++] = &i8mm_level;
        if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) list[n++] = &dotprod_level;
        list[n++] = &neon_level;
#endif
        list[n] = &scalar_level;
    }
};

}  // namespace

const Kernels* const* levels() {
    static const Available available;
    return available.list;
}

const Kernels* find_level(const char* name) {
    for (const Kernels* const* l = levels(); *l != nullptr; l++)
        if (std::strcmp((*l)->name, name) == 0) return *l;
    return nullptr;
}

}  // namespace slmd::compute
