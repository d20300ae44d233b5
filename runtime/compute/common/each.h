// f(0), f(1) ... f(N - 1), each a constant: what a loop indexes stays in registers, where a loop that is unrolled late
// leaves an array on the stack.
#pragma once
#include <type_traits>
#include <utility>

namespace {

template <int N, class F>
[[gnu::always_inline]] inline void each(F&& f) {
    [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) {
        (f(std::integral_constant<int, i>{}), ...);
    }(std::make_integer_sequence<int, N>{});
}

}  // namespace
