// Operands of products that multiply bfloat16 numbers and sum them in float32, where the processor has those:
// by tiles (AMX, tiles.hpp), or by pairs of numbers in vectors (AVX-512 BF16, pairs.hpp).
//
// Outside the products everything stays float32. Operands are rounded as they are packed: A row after row,
// zero padded to a multiple of 32 values; B in pairs of k, the two values of a column side by side. What is
// left of B's last block of k must be zeros in A or in B.
//
// Tiles multiply so fast that they can compute products of float32 numbers too: each number is split into
// three of bf16 whose sum it is, exactly, and of the nine products of parts the six that matter in float32
// are summed (Henry, Tang and Heinecke 2019, arXiv 1904.06376). Part after part follows for every 32 values.
#pragma once

#include <bit>

#include "inner.hpp"
#include "kernels.hpp"

namespace penstock::PENSTOCK_ISA {

template <class A, class B> constexpr bool same = false;
template <class A> constexpr bool same<A, A> = true;

constexpr index depth_unit = 32;  // values of k in a row of a tile
PENSTOCK_INLINE index padded_depth(index depth) { return divide_up(depth, depth_unit) * depth_unit; }
constexpr index tile_edge = 16;  // rows of a tile: A has readable memory for whole tiles

// How B is packed: for every 32 values of k panel after panel, a tile each; or, for products by vectors, pair
// of k after pair, all panels side by side. Distances in values.
#if defined(__AMX_BF16__)
constexpr bool by_tiles = true;
constexpr index next_panel = tile_edge * depth_unit;
PENSTOCK_INLINE index next_pair(index) { return depth_unit; }
#else
constexpr bool by_tiles = false;
constexpr index next_panel = depth_unit;
PENSTOCK_INLINE index next_pair(index width) { return 2 * width; }
#endif

// How products keep their operands. `Matrix` is what the caller's weights are, `Kept` what the operands are
// kept as, in so many `parts`; 0 where they stay as they are.
template <class T> struct Exact {
    using Matrix = T;
    using Kept = T;
    static constexpr index parts = 0;
};
struct Rounded {
    using Matrix = bf16;
    using Kept = bf16;
    static constexpr index parts = 1;
};
struct Split {
    using Matrix = float;
    using Kept = bf16;
    static constexpr index parts = 3;
};
template <class M> constexpr bool rounds = M::parts != 0;

// How many values a row of A, or a column of B, of so many takes.
template <class M> PENSTOCK_INLINE index kept_depth(index depth) {
    return rounds<M> ? padded_depth(depth) * M::parts : depth;
}

// A and B of a product of so many k's.
struct Factors {
    const bf16* a = nullptr;
    index a_stride = 0;
    index depth = 0;          // a multiple of depth_unit
    const bf16* b = nullptr;  // packed, depth * Parts x (width * 16)

    // Of `count` k's from k on.
    template <index Parts> Factors slice(index k, index count, index width) const {
        return {a + k * Parts, a_stride, count, b + k * Parts * width * 16};
    }
};

// k's at a time where there are many: A stays in the second-level cache while all columns of B go by.
constexpr index slice_depth = 512;
template <class F> PENSTOCK_INLINE void each_slice(index depth, F f) {
    for (index k = 0; k < depth; k += slice_depth) f(k, min(slice_depth, depth - k));
}

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

// Numbers rounded to bf16 part by part: each part is what the ones before have left, rounded, and the last
// one of three leaves nothing. An infinity leaves no number; whoever has met one computes without parts.
template <index Parts> class Remainders {
  public:
    // What the next part rounds; `v` becomes what that leaves.
    PENSTOCK_INLINE Vec<float> next(Vec<float>& v, index part) {
        if (part == Parts - 1) return v;
        const Vec<float> nearest = (Vec<float>)(((Pairs)v + 0x8000u) & 0xffff0000u);
        infinite_ |= _mm512_fpclass_ps_mask((__m512)nearest, 0x18);
        v -= nearest;
        return nearest;
    }
    bool met_infinity() const { return infinite_ != 0; }

  private:
    __mmask16 infinite_ = 0;
};

// Where a part of value k lies in a row of A.
template <index Parts> PENSTOCK_INLINE index place(index k, index part) {
    return (k / depth_unit * Parts + part) * depth_unit + k % depth_unit;
}

// What rounds operands returns whether it has met an infinity, where it looks for one: see Remainders.

// A row of A.
template <index Parts> inline bool round_row(bf16* to, const float* from, index count) {
    Remainders<Parts> remainders;
    for (index k = 0; k < padded_depth(count); k += depth_unit) {
        Vec<float> low = load_partial(from + k, count - k),
                   high = load_partial(from + k + 16, count - k - 16);
        for (index part = 0; part < Parts; ++part, to += depth_unit) {
            const Pairs row = rounded(remainders.next(low, part), remainders.next(high, part));
            std::memcpy(to, &row, sizeof row);
        }
    }
    return remainders.met_infinity();
}

// Panels [first, last) of a row of A, 16 values each: from(panel) is where they lie. Two that share a row of
// a tile are written at once.
template <index Parts, class From> inline bool round_panels(bf16* row, index first, index last, From from) {
    Remainders<Parts> remainders;
    while (first < last) {
        const bool two = first % 2 == 0 && first + 1 < last;
        bf16* const to = row + place<Parts>(first * 16, 0);
        Vec<float> low = load(from(first)), high = two ? load(from(first + 1)) : Vec<float>{};
        for (index part = 0; part < Parts; ++part) {
            const Pairs both = rounded(remainders.next(low, part), remainders.next(high, part));
            if (two) std::memcpy(to + part * depth_unit, &both, sizeof both);
            else std::memcpy(to + part * depth_unit, &both, sizeof both / 2);
        }
        first += two ? 2 : 1;
    }
    return remainders.met_infinity();
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

// Up to 16 rows of B^T, `stride` apart, as the columns of one panel of a B of `width` columns.
template <index Parts>
bool pack_panel(bf16* packed, index width, const bf16* rows, index stride, index depth, index count) {
    static_assert(Parts == 1);
    for (index k = 0; k < padded_depth(depth); k += depth_unit) {
        Vec<float> block[16];
        for (index j = 0; j < 16; ++j)
            block[j] = (Vec<float>)load_pairs(rows + j * stride + k, j < count ? depth - k : 0);
        transpose<float>(block);
        for (index i = 0; i < 16; ++i) std::memcpy(packed + i * next_pair(width), &block[i], sizeof block[i]);
        packed += depth_unit * width;
    }
    return false;
}
template <index Parts>
bool pack_panel(bf16* packed, index width, const float* rows, index stride, index depth, index count) {
    Remainders<Parts> remainders;
    for (index k = 0; k < padded_depth(depth); k += depth_unit) {
        Vec<float> block[Parts][16];
        for (index j = 0; j < 16; ++j) {
            const float* from = rows + j * stride + k;
            const index valid = j < count ? depth - k : 0;
            Vec<float> low = load_partial(from, valid), high = load_partial(from + 16, valid - 16);
            for (index part = 0; part < Parts; ++part)
                block[part][j] = (Vec<float>)rounded(remainders.next(low, part), remainders.next(high, part));
        }
        for (index part = 0; part < Parts; ++part) {
            transpose<float>(block[part]);
            for (index i = 0; i < 16; ++i)
                std::memcpy(packed + i * next_pair(width), &block[part][i], sizeof block[part][i]);
            packed += depth_unit * width;
        }
    }
    return remainders.met_infinity();
}

// Two rows of B (nullptr: zeros), `count` values each, as one pair of k, zero padded to `padded`. From one
// part of them to the next is a block of k.
template <index Parts>
bool pack_pair(bf16* packed, const float* first, const float* second, index count, index padded) {
    Remainders<Parts> remainders;
    for (index j = 0; j < padded; j += 16) {
        Vec<float> a = load_partial(first + j, first ? count - j : 0);
        Vec<float> b = load_partial(second + j, second ? count - j : 0);
        for (index part = 0; part < Parts; ++part) {
            const Pairs both = paired(remainders.next(a, part), remainders.next(b, part));
            std::memcpy(packed + part * depth_unit * padded + j / 16 * next_panel, &both, sizeof both);
        }
    }
    return remainders.met_infinity();
}
template <index Parts>
bool pack_pair(bf16* packed, const bf16* first, const bf16* second, index count, index padded) {
    static_assert(Parts == 1);
    for (index j = 0; j < padded; j += 16) {
        const Pairs both = load_singly(first + j, first ? count - j : 0) |
                           load_singly(second + j, second ? count - j : 0) << 16;
        std::memcpy(packed + j / 16 * next_panel, &both, sizeof both);
    }
    return false;
}
// Where the pair of k begins in a B of `width` columns: k is even.
template <index Parts> PENSTOCK_INLINE index pair_place(index k, index width) {
    return k / depth_unit * Parts * depth_unit * width + k % depth_unit / 2 * next_pair(width);
}

// 32 rows of 16 values, `stride` apart, as 16 rows of 32 values, `to_stride` apart, part after part. Rows
// from `count` on are zeros. Returns the sum of the rows.
template <index Parts>
Vec<float> round_transposed(bf16* to, index to_stride, const float* rows, index stride, index count) {
    Remainders<Parts> remainders;
    Vec<float> block[Parts][16], sum{};
    for (index j = 0; j < 16; ++j) {
        const float* from = rows + 2 * j * stride;
        Vec<float> first = load_partial(from, 2 * j < count ? 16 : 0);
        Vec<float> second = load_partial(from + stride, 2 * j + 1 < count ? 16 : 0);
        sum += first;
        sum += second;
        for (index part = 0; part < Parts; ++part)
            block[part][j] = (Vec<float>)paired(remainders.next(first, part), remainders.next(second, part));
    }
    for (index part = 0; part < Parts; ++part, to += depth_unit) {
        transpose<float>(block[part]);
        for (index i = 0; i < 16; ++i)
            std::memcpy(to + i * to_stride, &block[part][i], sizeof block[part][i]);
    }
    return sum;
}

template <index Parts> struct RoundedProduct {
    Factors factors[2];  // the sum of two products, or of one
    index width;         // panels: 1 to 4, or 6 by tiles
    float* const* c;     // rows of C; a row at nullptr is left out
    index c_offset = 0;
    index run = width, gap = 0;  // after so many panels of C so many are left out (tiles only)
    index columns;
    const float* bias = nullptr;
    bool accumulate = false;
    bool sums_apart = false;        // summed from zero and then added to C, not onto it: see TileOfC
    bool c_is_far = false;          // rows of C in memory, far apart: fetched while they are multiplied
    const bf16* b_after = nullptr;  // what will be multiplied with next and has to be brought nearer
};

#endif

}  // namespace penstock::PENSTOCK_ISA
