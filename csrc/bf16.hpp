// Products of bfloat16 numbers summed in float32, where the processor has them: tiles (AMX), or pairs of
// numbers in vectors (AVX-512 BF16).
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

#include "gemm.hpp"
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

// `count` values of a row of A from value k on, both multiples of 16.
template <index Parts> inline bool round_values(bf16* row, index k, const float* from, index count) {
    Remainders<Parts> remainders;
    for (index end = k + count; k < end; k += 16, from += 16) {
        Vec<float> v = load(from);
        for (index part = 0; part < Parts; ++part) {
            const __m256i half = (__m256i)_mm512_cvtneps_pbh((__m512)remainders.next(v, part));
            std::memcpy(row + place<Parts>(k, part), &half, sizeof half);
        }
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
// from `count` on are zeros.
template <index Parts>
void round_transposed(bf16* to, index to_stride, const float* rows, index stride, index count) {
    Remainders<Parts> remainders;
    Vec<float> block[Parts][16];
    for (index j = 0; j < 16; ++j) {
        const float* from = rows + 2 * j * stride;
        Vec<float> first = load_partial(from, 2 * j < count ? 16 : 0);
        Vec<float> second = load_partial(from + stride, 2 * j + 1 < count ? 16 : 0);
        for (index part = 0; part < Parts; ++part)
            block[part][j] = (Vec<float>)paired(remainders.next(first, part), remainders.next(second, part));
    }
    for (index part = 0; part < Parts; ++part, to += depth_unit) {
        transpose<float>(block[part]);
        for (index i = 0; i < 16; ++i)
            std::memcpy(to + i * to_stride, &block[part][i], sizeof block[part][i]);
    }
}

template <index Parts> struct RoundedProduct {
    Factors factors[2];  // the sum of two products, or of one
    index width;         // panels, 1 to 4
    float* const* c;     // rows of C; a row at nullptr is left out
    index c_offset = 0;
    index columns;
    const float* bias = nullptr;
    bool accumulate = false;
    bool sums_apart = false;        // summed from zero and then added to C, not onto it: see TileOfC
    bool c_is_far = false;          // rows of C in memory, far apart: fetched while they are multiplied
    const bf16* b_after = nullptr;  // what will be multiplied with next and has to be brought nearer
};

#if defined(__AMX_BF16__)

// The tile registers of this thread, for as long as this lives.
class Tiles {
  public:
    Tiles() {
        Configuration c{};
        c.palette = 1;
        for (int t = 0; t < 8; ++t) c.columns[t] = 64, c.rows[t] = tile_edge;
        // GCC takes the instruction to read eight bytes, and would leave the others unwritten.
        asm volatile("" : : "r"(&c) : "memory");
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

// One tile of C: what its sums start from, and where they go. Rows of C that are evenly spaced the tile
// registers read and write themselves, others go through memory of the tile's own. Either way the sums are
// the same.
class TileOfC {
  public:
    // spacing: of the rows, in values; 0 where they are not even, or not sixteen.
    template <index Parts>
    TileOfC(const RoundedProduct<Parts>& p, index row, index rows, index panel, index spacing)
        : row_(row), rows_(min(rows - row, tile_edge)), column_(p.c_offset + panel * 16) {
        static constexpr float zeros[16] = {};
        columns_ = panel < p.width ? min(p.columns - panel * 16, index(16)) : 0;
        adds_ = p.accumulate && p.sums_apart;
        if (p.c_is_far && p.accumulate) each_row(p, [](const float* c, index) { __builtin_prefetch(c, 1); });
        in_place_ = spacing && columns_ == 16 && !adds_;
        end = in_place_ ? p.c[row] + column_ : own_[0];
        end_stride = in_place_ ? spacing * index(sizeof(float)) : 64;
        if (!p.accumulate || adds_) {
            start = p.bias && columns_ > 0 ? p.bias + panel * 16 : zeros, start_stride = 0;
            return;
        }
        start = end, start_stride = end_stride;
        if (!in_place_)
            each_row(p, [&](const float* c, index i) { store(own_[i], load_partial(c, columns_)); });
    }

    template <index Parts> PENSTOCK_INLINE void finish(const RoundedProduct<Parts>& p) const {
        if (in_place_) return;
        if (adds_ && columns_ == 16)
            each_row(p, [&](float* c, index i) { store(c, load(c) + load(own_[i])); });
        else each_row(p, [&](float* c, index i) { write_edge<float>(c, load(own_[i]), columns_, adds_); });
    }

    const float* start;
    float* end;
    index start_stride, end_stride;  // in bytes

  private:
    template <index Parts, class F> PENSTOCK_INLINE void each_row(const RoundedProduct<Parts>& p, F f) const {
        for (index i = 0; i < rows_ && columns_ > 0; ++i)
            if (p.c[row_ + i]) f(p.c[row_ + i] + column_, i);
    }

    const index row_, rows_, column_;
    index columns_;
    bool in_place_, adds_;
    alignas(64) float own_[16][16];
};

// From one to the next of sixteen rows of C, in values; 0 where that differs.
template <index Parts> index spacing(const RoundedProduct<Parts>& p, index row, index rows) {
    if (row + tile_edge > rows) return 0;
    float* const* c = p.c + row;
    for (index i = 0; i < tile_edge; ++i)
        if (!c[i] || (i > 1 && c[i] - c[i - 1] != c[1] - c[0])) return 0;
    return c[1] - c[0];
}

// Sums that no tile store interrupts for longer than this made the next one wait for hundreds of cycles.
constexpr index products_between_stores = 96;

// The parts of A and B that meet, in this order everywhere: each time one side changes. The products of all
// other pairs are too small to tell.
struct Pair { index a, b; };
constexpr Pair pairs_of_parts[] = {{0, 0}, {0, 1}, {1, 1}, {1, 0}, {2, 0}, {0, 2}};
template <index Parts> constexpr index products_of_parts = Parts * (Parts + 1) / 2;

// Brings in the B that comes next, a part with each of the `shares` that a product is computed in.
template <index Parts> class Fetch {
  public:
    Fetch(const RoundedProduct<Parts>& p, index share, index shares) {
        const index block = Parts * p.width * tile_edge,
                    blocks = p.factors[0].depth / depth_unit;  // in lines
        lines_ = p.b_after ? divide_up(block, shares * products_of_parts<Parts>) : 0;
        at_ = p.b_after + share * (block * blocks / shares) * depth_unit;
    }
    // Before the products of a pair of parts.
    PENSTOCK_INLINE void some() {
        for (index line = 0; line < lines_; ++line, at_ += depth_unit) __builtin_prefetch(at_, 0, 2);
    }

  private:
    index lines_;
    const bf16* at_;
};

// Tiles 0 to 3, the sums, with the products of tiles 4 and 5, of A, and tiles 6 and 7, of B.
PENSTOCK_INLINE void add_square() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

// 32 rows, two panels: four tiles of sums.
template <index Parts> void multiply_square(const RoundedProduct<Parts>& p, index row, index rows,
                                            index panel, index upper, index lower, Fetch<Parts> fetch) {
    const TileOfC c[] = {{p, row, rows, panel, upper},
                         {p, row, rows, panel + 1, upper},
                         {p, row + tile_edge, rows, panel, lower},
                         {p, row + tile_edge, rows, panel + 1, lower}};
    alignas(64) float nowhere[16][16];
    constexpr index blocks_between_stores = products_between_stores / 4 / products_of_parts<Parts>;
    _tile_loadd(0, c[0].start, c[0].start_stride);
    _tile_loadd(1, c[1].start, c[1].start_stride);
    _tile_loadd(2, c[2].start, c[2].start_stride);
    _tile_loadd(3, c[3].start, c[3].start_stride);
    index block = 1;
    for (const Factors& f : p.factors) {
        const index second = row + tile_edge < rows ? tile_edge * f.a_stride : 0;
        const bf16 *a0 = f.a + row * f.a_stride, *a1 = a0 + second;
        const bf16 *b0 = f.b + panel * next_panel, *b1 = b0 + (panel + 1 < p.width ? next_panel : 0);
        const index a_stride = f.a_stride * 2, b_part = p.width * next_panel;
        for (index k = 0; k < f.depth; k += depth_unit, ++block) {
            _tile_loadd(4, a0, a_stride);
            _tile_loadd(6, b0, 64);
            _tile_loadd(7, b1, 64);
            _tile_loadd(5, a1, a_stride);
            add_square();
            if constexpr (Parts == 3) {  // as pairs_of_parts has them
                fetch.some();
                _tile_loadd(6, b0 + b_part, 64);
                _tile_loadd(7, b1 + b_part, 64);
                add_square();
                fetch.some();
                _tile_loadd(4, a0 + depth_unit, a_stride);
                _tile_loadd(5, a1 + depth_unit, a_stride);
                add_square();
                fetch.some();
                _tile_loadd(6, b0, 64);
                _tile_loadd(7, b1, 64);
                add_square();
                fetch.some();
                _tile_loadd(4, a0 + 2 * depth_unit, a_stride);
                _tile_loadd(5, a1 + 2 * depth_unit, a_stride);
                add_square();
                fetch.some();
                _tile_loadd(4, a0, a_stride);
                _tile_loadd(6, b0 + 2 * b_part, 64);
                _tile_loadd(7, b1 + 2 * b_part, 64);
                _tile_loadd(5, a1, a_stride);
                add_square();
            }
            fetch.some();
            if (block % blocks_between_stores == 0) _tile_stored(4, nowhere[0], 64);
            a0 += Parts * depth_unit, a1 += Parts * depth_unit, b0 += Parts * b_part, b1 += Parts * b_part;
        }
    }
    _tile_stored(0, c[0].end, c[0].end_stride);
    _tile_stored(1, c[1].end, c[1].end_stride);
    _tile_stored(2, c[2].end, c[2].end_stride);
    _tile_stored(3, c[3].end, c[3].end_stride);
    for (const TileOfC& tile : c) tile.finish(p);
}

// 32 rows, three panels: six tiles of sums, and one each of A and B.
template <index Parts> void multiply_wide(const RoundedProduct<Parts>& p, index row, index rows, index upper,
                                          index lower, Fetch<Parts> fetch) {
    const TileOfC c[] = {{p, row, rows, 0, upper},
                         {p, row, rows, 1, upper},
                         {p, row, rows, 2, upper},
                         {p, row + tile_edge, rows, 0, lower},
                         {p, row + tile_edge, rows, 1, lower},
                         {p, row + tile_edge, rows, 2, lower}};
    alignas(64) float nowhere[16][16];
    constexpr index blocks_between_stores = products_between_stores / 6 / products_of_parts<Parts>;
    _tile_loadd(0, c[0].start, c[0].start_stride);
    _tile_loadd(1, c[1].start, c[1].start_stride);
    _tile_loadd(2, c[2].start, c[2].start_stride);
    _tile_loadd(3, c[3].start, c[3].start_stride);
    _tile_loadd(4, c[4].start, c[4].start_stride);
    _tile_loadd(5, c[5].start, c[5].start_stride);
    index block = 1;
    for (const Factors& f : p.factors) {
        const index second = row + tile_edge < rows ? tile_edge * f.a_stride : 0;
        const bf16 *a0 = f.a + row * f.a_stride, *a1 = a0 + second, *b = f.b;
        const index a_stride = f.a_stride * 2;
        for (index k = 0; k < f.depth; k += depth_unit, ++block) {
            for (index n = 0; n < products_of_parts<Parts>; ++n) {
                const index i = pairs_of_parts[n].a * depth_unit;
                const bf16* part = b + pairs_of_parts[n].b * 3 * next_panel;
                _tile_loadd(6, a0 + i, a_stride);
                _tile_loadd(7, part, 64);
                _tile_dpbf16ps(0, 6, 7);
                _tile_loadd(7, part + next_panel, 64);
                _tile_dpbf16ps(1, 6, 7);
                _tile_loadd(7, part + 2 * next_panel, 64);
                _tile_dpbf16ps(2, 6, 7);
                _tile_loadd(6, a1 + i, a_stride);
                _tile_dpbf16ps(5, 6, 7);
                _tile_loadd(7, part + next_panel, 64);
                _tile_dpbf16ps(4, 6, 7);
                _tile_loadd(7, part, 64);
                _tile_dpbf16ps(3, 6, 7);
                fetch.some();
            }
            if (block % blocks_between_stores == 0) _tile_stored(6, nowhere[0], 64);
            a0 += Parts * depth_unit, a1 += Parts * depth_unit, b += Parts * 3 * next_panel;
        }
    }
    _tile_stored(0, c[0].end, c[0].end_stride);
    _tile_stored(1, c[1].end, c[1].end_stride);
    _tile_stored(2, c[2].end, c[2].end_stride);
    _tile_stored(3, c[3].end, c[3].end_stride);
    _tile_stored(4, c[4].end, c[4].end_stride);
    _tile_stored(5, c[5].end, c[5].end_stride);
    for (const TileOfC& tile : c) tile.finish(p);
}

// Tiles 0 to 3, the sums, with the products of tile 4, of A, and up to four panels of B.
PENSTOCK_INLINE void add_strip(const bf16* b, index width) {
    _tile_loadd(5, b, 64);
    _tile_dpbf16ps(0, 4, 5);
    if (width < 2) return;
    _tile_loadd(6, b + next_panel, 64);
    _tile_dpbf16ps(1, 4, 6);
    if (width < 3) return;
    _tile_loadd(7, b + 2 * next_panel, 64);
    _tile_dpbf16ps(2, 4, 7);
    if (width < 4) return;
    _tile_loadd(5, b + 3 * next_panel, 64);
    _tile_dpbf16ps(3, 4, 5);
}

// Up to 16 rows, up to four panels.
template <index Parts> void multiply_strip(const RoundedProduct<Parts>& p, index row, index rows,
                                           Fetch<Parts> fetch) {
    const index even = spacing(p, row, rows);
    const TileOfC c[] = {
        {p, row, rows, 0, even}, {p, row, rows, 1, even}, {p, row, rows, 2, even}, {p, row, rows, 3, even}};
    alignas(64) float nowhere[16][16];
    constexpr index blocks_between_stores = products_between_stores / 4 / products_of_parts<Parts>;
    _tile_loadd(0, c[0].start, c[0].start_stride);
    _tile_loadd(1, c[1].start, c[1].start_stride);
    _tile_loadd(2, c[2].start, c[2].start_stride);
    _tile_loadd(3, c[3].start, c[3].start_stride);
    index block = 1;
    for (const Factors& f : p.factors) {
        const bf16 *a = f.a + row * f.a_stride, *b = f.b;
        const index a_stride = f.a_stride * 2, b_part = p.width * next_panel;
        for (index k = 0; k < f.depth; k += depth_unit, ++block) {
            for (index n = 0; n < products_of_parts<Parts>; ++n) {
                _tile_loadd(4, a + pairs_of_parts[n].a * depth_unit, a_stride);
                add_strip(b + pairs_of_parts[n].b * b_part, p.width);
                fetch.some();
            }
            if (block % blocks_between_stores == 0) _tile_stored(4, nowhere[0], 64);
            a += Parts * depth_unit, b += Parts * b_part;
        }
    }
    _tile_stored(0, c[0].end, c[0].end_stride);
    _tile_stored(1, c[1].end, c[1].end_stride);
    _tile_stored(2, c[2].end, c[2].end_stride);
    _tile_stored(3, c[3].end, c[3].end_stride);
    for (const TileOfC& tile : c) tile.finish(p);
}

template <index Parts> void multiply(const RoundedProduct<Parts>& p, index rows) {
    const index across = p.width == 3 ? 1 : divide_up(p.width, 2);
    const index shares = max(1, (rows + tile_edge - 1) / (2 * tile_edge) * across);
    index row = 0, done = 0;
    const auto fetch = [&] { return Fetch<Parts>(p, min(done++, shares - 1), shares); };
    for (; row + tile_edge < rows; row += 2 * tile_edge) {
        const index upper = spacing(p, row, rows), lower = spacing(p, row + tile_edge, rows);
        if (p.width == 3) multiply_wide(p, row, rows, upper, lower, fetch());
        else
            for (index panel = 0; panel < p.width; panel += 2)
                multiply_square(p, row, rows, panel, upper, lower, fetch());
    }
    if (row < rows) multiply_strip(p, row, rows, fetch());
}

#else

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

#endif
#endif

}  // namespace penstock::PENSTOCK_ISA
