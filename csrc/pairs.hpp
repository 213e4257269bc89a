// Products of rounded numbers by vectors of pairs (AVX-512 BF16), where there are no tiles.
#pragma once

#include "bf16.hpp"

#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
namespace penstock::PENSTOCK_ISA {

struct Tiles {
    Tiles() {}
    ~Tiles() {}
};

// One row of a panel of C.
PENSTOCK_INLINE void finish(const RoundedProduct<1>& p, index row, index panel, Vec<float> sum) {
    if (!p.c[row]) return;
    float* out = p.c[row] + p.c_offset + panel * 16;
    if (p.bias) sum += load(p.bias + panel * 16);
    if (p.columns < (panel + 1) * 16)
        return write_edge<float>(out, sum, p.columns - panel * 16, p.accumulate);
    store(out, p.accumulate ? load(out) + sum : sum);
}

template <index Rows, index Width> PENSTOCK_INLINE void multiply_pairs(const RoundedProduct<1>& p,
                                                                       index row) {
    Vec<float> sum[Rows][Width] = {};
    if (p.c_is_far)
        for (index i = 0; i < Rows; ++i)
            if (p.c[row + i])
                for (index v = 0; v < Width; ++v) __builtin_prefetch(p.c[row + i] + p.c_offset + v * 16, 1);
    for (const Factors& f : p.factors) {
        const bf16 *a = f.a + row * f.a_stride, *b = f.b;
        for (index k = 0; k < f.depth; k += 2, b += Width * 32) {
            Pairs column[Width];
            for (index v = 0; v < Width; ++v) std::memcpy(&column[v], b + v * 32, 64);
            for (index i = 0; i < Rows; ++i) {
                std::uint32_t pair;
                std::memcpy(&pair, a + i * f.a_stride + k, 4);
                const __m512bh value = (__m512bh)_mm512_set1_epi32(int(pair));
                for (index v = 0; v < Width; ++v)
                    sum[i][v] = (Vec<float>)_mm512_dpbf16_ps((__m512)sum[i][v], value, (__m512bh)column[v]);
            }
        }
    }
#pragma GCC unroll 6
    for (index i = 0; i < Rows; ++i)
#pragma GCC unroll 4
        for (index v = 0; v < Width; ++v) finish(p, row + i, v, sum[i][v]);
}

template <index Width> void multiply_pairs_rows(const RoundedProduct<1>& p, index rows) {
    index row = 0;
    for (; row + 6 <= rows; row += 6) multiply_pairs<6, Width>(p, row);
    for (; row + 2 <= rows; row += 2) multiply_pairs<2, Width>(p, row);
    if (row < rows) multiply_pairs<1, Width>(p, row);
}

template <index Parts> void multiply(const RoundedProduct<Parts>& p, index rows) {
    static_assert(Parts == 1);
    switch (p.width) {
        case 1: return multiply_pairs_rows<1>(p, rows);
        case 2: return multiply_pairs_rows<2>(p, rows);
        case 3: return multiply_pairs_rows<3>(p, rows);
        default: return multiply_pairs_rows<4>(p, rows);
    }
}

}  // namespace penstock::PENSTOCK_ISA
#endif
