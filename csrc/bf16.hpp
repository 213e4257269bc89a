// Products of bfloat16 numbers summed in float32, where the processor has them: tiles (AMX), or pairs of
// numbers in vectors (AVX-512 BF16).
//
// Outside the products everything stays float32. Operands are rounded as they are packed: A row after row,
// zero padded to a multiple of 32 values; B in pairs of k, for each pair the columns side by side. What is
// left of B's last block of k must be zeros in A or in B.
#pragma once

#include <bit>

#include "gemm.hpp"
#include "kernels.hpp"

namespace penstock::PENSTOCK_ISA {

template <class A, class B> constexpr bool same = false;
template <class A> constexpr bool same<A, A> = true;

constexpr index depth_unit = 32;  // values of k in a row of a tile
PENSTOCK_INLINE index padded_depth(index depth) { return divide_up(depth, depth_unit) * depth_unit; }
constexpr index tile_edge = 16;  // rows of a tile: A has readable memory for whole tiles

#if defined(__AVX512BF16__)

typedef std::uint32_t Pairs __attribute__((vector_size(64)));

// 32 values rounded to nearest, in their order.
PENSTOCK_INLINE Pairs rounded(Vec<float> low, Vec<float> high) {
    return (Pairs)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}
// Each lane a pair: the first number in its lower half.
PENSTOCK_INLINE Pairs paired(Vec<float> first, Vec<float> second) {
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                           7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (Pairs)_mm512_permutexvar_epi16(order, both);
}
// A row of A.
inline void round_row(bf16* to, const float* from, index count) {
    for (index k = 0; k < padded_depth(count); k += depth_unit) {
        const Pairs row =
            rounded(load_partial(from + k, count - k), load_partial(from + k + 16, count - k - 16));
        std::memcpy(to + k, &row, sizeof row);
    }
}

// `count` values, a multiple of 16, that fill no whole row of A.
inline void round_values(bf16* to, const float* from, index count) {
    for (index k = 0; k < count; k += 16) {
        const __m256i half = (__m256i)_mm512_cvtneps_pbh((__m512)load(from + k));
        std::memcpy(to + k, &half, sizeof half);
    }
}

// The first `count` of 32 values, zeros after them.
PENSTOCK_INLINE Pairs load_pairs(const bf16* p, index count) {
    const __mmask32 mask = count >= 32 ? ~0u : (1u << (count > 0 ? count : 0)) - 1;
    return (Pairs)_mm512_maskz_loadu_epi16(mask, p);
}
// Each lane one of 16 values.
PENSTOCK_INLINE Pairs load_singly(const bf16* p, index count) {
    const __mmask16 mask = static_cast<__mmask16>(count >= 16 ? ~0u : (1u << (count > 0 ? count : 0)) - 1);
    return (Pairs)_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p));
}

template <> struct Values<float, bf16> {
    PENSTOCK_INLINE static Vec<float> read(const bf16* p) { return (Vec<float>)(load_singly(p, 16) << 16); }
    PENSTOCK_INLINE static float read_one(const bf16* p) {
        return std::bit_cast<float>(std::uint32_t{p->bits} << 16);
    }
};

template <> struct Operand<float, bf16> {
    using vector = Pairs;
    static constexpr index count = 32;
    PENSTOCK_INLINE static vector read(const bf16* p) { return load_pairs(p, 32); }
    PENSTOCK_INLINE static vector read(const bf16* p, index valid) { return load_pairs(p, valid); }
    PENSTOCK_INLINE static Vec<float> added(Vec<float> sum, vector a, vector b) {
        return (Vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
    }
};

// Up to 16 rows of B^T, `stride` apart, as the columns of one panel of B, whose pairs of k are `width`
// pairs apart.
inline void pack_panel(bf16* packed, index width, const bf16* rows, index stride, index depth, index count) {
    for (index k = 0; k < padded_depth(depth); k += depth_unit) {
        Vec<float> block[16];
        for (index j = 0; j < 16; ++j)
            block[j] = (Vec<float>)load_pairs(rows + j * stride + k, j < count ? depth - k : 0);
        transpose<float>(block);
        for (index i = 0; i < 16; ++i, packed += 2 * width) std::memcpy(packed, &block[i], sizeof block[i]);
    }
}

// Two rows of B (nullptr: zeros), `count` values each, as one pair of k, zero padded to `padded`.
inline void pack_pair(bf16* packed, const float* first, const float* second, index count, index padded) {
    for (index j = 0; j < padded; j += 16) {
        const Pairs both = paired(load_partial(first + j, first ? count - j : 0),
                                  load_partial(second + j, second ? count - j : 0));
        std::memcpy(packed + 2 * j, &both, sizeof both);
    }
}

inline void pack_pair(bf16* packed, const bf16* first, const bf16* second, index count, index padded) {
    for (index j = 0; j < padded; j += 16) {
        const Pairs both = load_singly(first + j, first ? count - j : 0) |
                           load_singly(second + j, second ? count - j : 0) << 16;
        std::memcpy(packed + 2 * j, &both, sizeof both);
    }
}

// 32 rows of 16 values, `stride` apart, as 16 rows of 32 values, `to_stride` apart. Rows from `count` on are
// zeros.
inline void round_transposed(bf16* to, index to_stride, const float* rows, index stride, index count) {
    Vec<float> block[16];
    for (index j = 0; j < 16; ++j) {
        const float* from = rows + 2 * j * stride;
        const Vec<float> first = load_partial(from, 2 * j < count ? 16 : 0);
        const Vec<float> second = load_partial(from + stride, 2 * j + 1 < count ? 16 : 0);
        block[j] = (Vec<float>)paired(first, second);
    }
    transpose<float>(block);
    for (index i = 0; i < 16; ++i) std::memcpy(to + i * to_stride, &block[i], sizeof block[i]);
}

struct RoundedProduct {
    const bf16* a;
    index a_stride;
    index depth;      // a multiple of depth_unit
    const bf16* b;    // packed, depth / 2 x (width * 16) pairs
    index width;      // panels, 1 to 4
    float* const* c;  // rows of C; a row at nullptr is left out
    index c_offset = 0;
    index columns;
    const float* bias = nullptr;
    bool accumulate = false;
    bool c_is_far = false;  // rows of C in memory, far apart: fetched while they are multiplied
};

// One row of a panel of C.
PENSTOCK_INLINE void finish(const RoundedProduct& p, index row, index panel, Vec<float> sum) {
    if (!p.c[row]) return;
    float* out = p.c[row] + p.c_offset + panel * 16;
    if (p.bias) sum += load(p.bias + panel * 16);
    if (p.columns < (panel + 1) * 16)
        return write_edge<float>(out, sum, p.columns - panel * 16, p.accumulate);
    store(out, p.accumulate ? load(out) + sum : sum);
}

#if defined(__AMX_BF16__)

// The tile registers of this thread, for as long as this lives.
class Tiles {
  public:
    Tiles() {
        Configuration c{};
        c.palette = 1;
        for (int t = 0; t < 8; ++t) c.columns[t] = 64, c.rows[t] = tile_edge;
        _tile_loadconfig(&c);
    }
    ~Tiles() { _tile_release(); }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;

  private:
    struct alignas(64) Configuration {
        std::uint8_t palette, start_row, reserved[14];
        std::uint16_t columns[16];
        std::uint8_t rows[16];
    };
};

inline void finish_tile(const RoundedProduct& p, index row, index rows, index panel,
                        const float (*tile)[16]) {
    if (panel >= p.width) return;
    for (index i = 0; i < min(rows - row, tile_edge); ++i) finish(p, row + i, panel, load(tile[i]));
}

// 32 rows, two panels: four tiles of sums.
inline void multiply_square(const RoundedProduct& p, index row, index rows, index panel) {
    const bf16 *a0 = p.a + row * p.a_stride, *a1 = a0 + (row + tile_edge < rows ? tile_edge * p.a_stride : 0);
    const bf16 *b0 = p.b + panel * 32, *b1 = b0 + (panel + 1 < p.width ? 32 : 0);
    const index a_stride = p.a_stride * 2, b_stride = p.width * 64;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (index k = 0; k < p.depth; k += depth_unit) {
        _tile_loadd(4, a0 + k, a_stride);
        _tile_loadd(6, b0 + k / 2 * p.width * 32, b_stride);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b1 + k / 2 * p.width * 32, b_stride);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a1 + k, a_stride);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    alignas(64) float sums[4][16][16];
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    for (index j = 0; j < 2; ++j) {
        finish_tile(p, row, rows, panel + j, sums[j]);
        finish_tile(p, row + tile_edge, rows, panel + j, sums[2 + j]);
    }
}

// Up to 16 rows, up to four panels.
inline void multiply_strip(const RoundedProduct& p, index row, index rows) {
    const bf16* a = p.a + row * p.a_stride;
    const bf16* b[4];
    for (index v = 0; v < 4; ++v) b[v] = p.b + min(v, p.width - 1) * 32;
    const index b_stride = p.width * 64;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (index k = 0; k < p.depth; k += depth_unit) {
        const index at = k / 2 * p.width * 32;
        _tile_loadd(4, a + k, p.a_stride * 2);
        _tile_loadd(5, b[0] + at, b_stride);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(6, b[1] + at, b_stride);
        _tile_dpbf16ps(1, 4, 6);
        _tile_loadd(7, b[2] + at, b_stride);
        _tile_dpbf16ps(2, 4, 7);
        _tile_loadd(5, b[3] + at, b_stride);
        _tile_dpbf16ps(3, 4, 5);
    }
    alignas(64) float sums[4][16][16];
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    for (index v = 0; v < 4; ++v) finish_tile(p, row, rows, v, sums[v]);
}

inline void multiply(const RoundedProduct& p, index rows) {
    index row = 0;
    for (; row + tile_edge < rows; row += 2 * tile_edge)
        for (index panel = 0; panel < p.width; panel += 2) multiply_square(p, row, rows, panel);
    if (row < rows) multiply_strip(p, row, rows);
}

#else

struct Tiles {
    Tiles() {}
    ~Tiles() {}
};

template <index Rows, index Width> PENSTOCK_INLINE void multiply_pairs(const RoundedProduct& p, index row) {
    Vec<float> sum[Rows][Width] = {};
    const bf16* a = p.a + row * p.a_stride;
    const bf16* b = p.b;
    if (p.c_is_far)
        for (index i = 0; i < Rows; ++i)
            if (p.c[row + i])
                for (index v = 0; v < Width; ++v) __builtin_prefetch(p.c[row + i] + p.c_offset + v * 16, 1);
    for (index k = 0; k < p.depth; k += 2, b += Width * 32) {
        Pairs column[Width];
        for (index v = 0; v < Width; ++v) std::memcpy(&column[v], b + v * 32, 64);
        for (index i = 0; i < Rows; ++i) {
            std::uint32_t pair;
            std::memcpy(&pair, a + i * p.a_stride + k, 4);
            const __m512bh value = (__m512bh)_mm512_set1_epi32(int(pair));
            for (index v = 0; v < Width; ++v)
                sum[i][v] = (Vec<float>)_mm512_dpbf16_ps((__m512)sum[i][v], value, (__m512bh)column[v]);
        }
    }
#pragma GCC unroll 6
    for (index i = 0; i < Rows; ++i)
#pragma GCC unroll 4
        for (index v = 0; v < Width; ++v) finish(p, row + i, v, sum[i][v]);
}

template <index Width> void multiply_pairs_rows(const RoundedProduct& p, index rows) {
    index row = 0;
    for (; row + 6 <= rows; row += 6) multiply_pairs<6, Width>(p, row);
    for (; row + 2 <= rows; row += 2) multiply_pairs<2, Width>(p, row);
    if (row < rows) multiply_pairs<1, Width>(p, row);
}

inline void multiply(const RoundedProduct& p, index rows) {
    switch (p.width) {
        case 1: return multiply_pairs_rows<1>(p, rows);
        case 2: return multiply_pairs_rows<2>(p, rows);
        case 3: return multiply_pairs_rows<3>(p, rows);
        default: return multiply_pairs_rows<4>(p, rows);
    }
}

#endif
#endif

}  // namespace penstock::PENSTOCK_ISA
