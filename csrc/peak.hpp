// As many float32 multiply-adds as one core can do, and as many bytes as it can read: the roofs that the
// benchmarks hold the kernels against.
#pragma once

#include "simd.hpp"

namespace penstock::PENSTOCK_ISA {

// Runs `rounds` of independent multiply-adds, all in registers, and returns the floating-point operations
// done, two for each multiply-add. There are enough accumulators to hide the latency on every port, and few
// enough to leave registers for the factors.
inline index multiply_adds(index rounds) {
#if PENSTOCK_VECTOR_BYTES == 64 || defined(__aarch64__)
    constexpr index accumulators = 24;  // of 32 registers
#else
    constexpr index accumulators = 12;  // of 16 registers
#endif
    // What is volatile the compiler can neither foresee nor leave out. The sums tend to `term` / (1 -
    // `factor`).
    volatile float factor = 0.5f, term = 1.0f, result;
    const Vec<float> a = broadcast(float(factor)), b = broadcast(float(term));
    Vec<float> sum[accumulators];
#pragma GCC unroll 24
    for (index n = 0; n < accumulators; ++n) sum[n] = b * float(n);
    for (index round = 0; round < rounds; ++round)
#pragma GCC unroll 24
        for (index n = 0; n < accumulators; ++n) sum[n] = sum[n] * a + b;
#pragma GCC unroll 24
    for (index n = 1; n < accumulators; ++n) sum[0] += sum[n];
    result = sum[0][0];
    (void)result;
    return rounds * accumulators * Simd<float>::lanes * 2;
}

// Reads `count` numbers, a multiple of 1,024, and does next to nothing with them.
inline void read_all(const float* from, index count) {
    Vec<float> sum[8] = {};
    for (index at = 0; at < count; at += 8 * Simd<float>::lanes)
#pragma GCC unroll 8
        for (index n = 0; n < 8; ++n) sum[n] += load(from + at + n * Simd<float>::lanes);
#pragma GCC unroll 8
    for (index n = 1; n < 8; ++n) sum[0] += sum[n];
    volatile float result = sum[0][0];
    (void)result;
}

}  // namespace penstock::PENSTOCK_ISA
