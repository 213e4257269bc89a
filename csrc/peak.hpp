// As many float32 multiply-adds as one core can do, products alone, as many bytes as it can read and as many
// gates as it can compute: the roofs that the benchmarks hold the kernels against.
#pragma once

#include "pack.hpp"

namespace penstock::PENSTOCK_ISA {

// Runs `rounds` of independent multiply-adds, all in registers, and returns the floating-point operations
// done, two for each multiply-add. There are enough accumulators to hide the latency on every port, and few
// enough to leave registers for the factors.
inline index multiply_adds(index rounds) {
    constexpr index accumulators = vector_registers * 3 / 4;
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

// A product of matrices alone, `times` times: C (rows, columns) = A (rows, depth) * B with operands packed as
// the layers have them. Returns the bytes of memory that it needs, and does nothing where there are fewer.
template <class M> std::size_t product_alone(void* memory, std::size_t bytes, index rows, index depth,
                                             index columns, index times) {
    using Kept = typename M::Kept;
    [[maybe_unused]] const TilesFor<M> tiles;
    const Columns<float> shape{columns};
    const index kept = kept_depth<M>(depth), stride = kept + (rounds<M> ? depth_unit : index(0));
    Arena arena(memory, bytes);
    const Kept* const a = arena.take<Kept>((rows + 2 * tile_edge) * stride);
    const Kept* const b = arena.take<Kept>(kept * shape.padded());
    float* const c = arena.take<float>(rows * shape.padded());
    const Kept** const a_rows = arena.take<const Kept*>(rows);
    float** const c_rows = arena.take<float*>(rows);
    if (!arena.fits()) return arena.used();
    for (index i = 0; i < rows; ++i) a_rows[i] = a + i * stride, c_rows[i] = c + i * shape.padded();
    const auto multiply_group = [&](index group, [[maybe_unused]] index k, [[maybe_unused]] index count) {
        const index width = shape.width(group), begin = shape.begin(group);
        const Kept* const of_group = b + begin * kept;
        if constexpr (rounds<M>)
            multiply<M::parts>(
                {.factors = {Factors{a, stride, padded_depth(depth), of_group}.template slice<M::parts>(
                     k, count, width)},
                 .width = width,
                 .c = c_rows,
                 .c_offset = begin,
                 .columns = width * panel_width<float>,
                 .accumulate = k > 0},
                rows);
        else
            multiply<float>({.a = a_rows,
                             .depth = {depth},
                             .b = of_group,
                             .width = width,
                             .c = c_rows,
                             .c_offset = begin,
                             .columns = width * panel_width<float>},
                            rows);
    };
    for (index n = 0; n < times; ++n)
        each_slice(rounds<M> ? padded_depth(depth) : index(1), [&](index k, index count) {
            for (index group = 0; group < shape.groups(); ++group) multiply_group(group, k, count);
        });
    return arena.used();
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

// What a cell computes beside the products, `rounds` times for a few rows in the first-level cache: the gates
// of a step and its new state, or their gradients. Returns the units computed.
template <class C> index gates_alone(bool backwards, index rounds) {
    constexpr index rows = 8, panels = Sizes<C, float>::group, panel = panel_width<float>;
    struct Block {
        float gates[C::slots * panel], d_gates[C::slots * panel];
        float h_prev[panel], c[panel], h[panel], d_h[panel], d_c[panel], reset[panel], peephole[panel];
    };
    alignas(64) Block blocks[rows * panels];
    constexpr index bytes = sizeof blocks, count = bytes / sizeof(float);
    float* const values = blocks[0].gates;
    for (index j = 0; j < count; ++j) values[j] = 1.0f;
    const Walk<C, float> walk(rows, 0, panels);
    const auto forward = [&](auto place) {
        Block& b = blocks[place.row * panels + place.panel];
        return Forward<float>{
            b.gates, b.h_prev, b.c, b.h, b.c, b.reset, {b.peephole, b.peephole, b.peephole}};
    };
    const auto backward = [&](auto place) {
        Block& b = blocks[place.row * panels + place.panel];
        return Backward<float>{b.gates,
                               b.d_gates,
                               b.h_prev,
                               b.c,
                               b.c,
                               b.d_h,
                               b.d_c,
                               nullptr,
                               b.reset,
                               b.reset,
                               {b.peephole, b.peephole, b.peephole}};
    };
    for (index round = 0; round < rounds; ++round) {
        // The compiler must take the values for read and changed.
        asm volatile("" : : "r"(blocks) : "memory");
        if (backwards) in_turns(walk, backward, [](const auto& s) { C::template backward<float>(s); });
        else in_turns(walk, forward, [](const auto& s) { C::template forward<float>(s); });
        if constexpr (C::reset_before) {
            if (backwards)
                in_turns(walk, backward, [](const auto& s) { C::template backward_reset<float>(s); });
            else in_turns(walk, forward, [](const auto& s) { C::template forward_candidate<float>(s); });
        }
    }
    asm volatile("" : : "r"(blocks) : "memory");
    return rounds * rows * panels * panel;
}

}  // namespace penstock::PENSTOCK_ISA
