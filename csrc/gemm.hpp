// Packed panels and the micro-kernels through which every matrix product of the library goes.
//
//   C[m, 0:columns] (+)= bias + sum over k of A[m, k] * B[k, 0:columns]
//
// B is packed: for each k, `width` panels (1 to 4) side by side, zero padded. The rows of A and C are given
// by their addresses, so that strided, permuted and ragged matrices need no copy. Every element is summed
// over k in the same order whatever the number of rows: results do not depend on how rows are shared out
// among threads.
#pragma once

#include "simd.hpp"

namespace penstock::PENSTOCK_ISA {

constexpr index tile_rows = 6;
constexpr index max_width = 4;
constexpr index depth_block = 64;  // k's summed at once; their slice of B stays in the first-level cache

// How k walks along a row of A: `blocks` runs of `run` values, `step` apart inside a run; `stride` from the
// start of one run to the next. A plain row is one run with step 1; the gates of a step are one run a group.
struct Depth {
    index run, blocks = 1, stride = 0, step = 1;
    index total() const { return run * blocks; }
};

// P: what B holds, T or bf16.
template <class T, class P = T> struct Product {
    const T* const* a;   // rows of A
    index a_offset = 0;  // added to each row address
    Depth depth;
    const P* b;                  // packed, depth.total() x (width * panel_width)
    const P* b_after = nullptr;  // what will be multiplied with next, if not what lies behind b
    index width;                 // panels, 1 to 4
    index b_stride = 0;          // from one row of B to the next, if it is not packed
    T* const* c;                 // rows of C
    index c_offset = 0;
    index columns;            // valid columns of C, at most width * panel_width
    const T* bias = nullptr;  // width * panel_width values added to each row; needs accumulate == false
    bool accumulate = false;
    bool c_is_far = false;  // rows of C in memory, far apart: tiles fetch them while they multiply
    bool a_is_far = false;  // plain rows of A that have not been read before: tiles fetch those of the next
};

// A slice of k, summed from zero and then added to C: over many k's the rounding errors of short sums grow
// far more slowly than those of one long one.
template <class P> struct Slice {
    Depth depth;
    index a_offset;
    const P* b;
    const P* b_after;  // of the slice after this one
    bool first;
};

// How values of type P are read as T; bf16 has its own (bf16.hpp).
template <class T, class P> struct Values {
    PENSTOCK_INLINE static Vec<T> read(const P* p) { return load(p); }
    PENSTOCK_INLINE static T read_one(const P* p) { return *p; }
};

// The first `count` lanes only, stored or added to what is there.
template <class T> PENSTOCK_INLINE void write_edge(T* out, Vec<T> sum, index count, bool add) {
    store_partial(out, add ? load_partial(out, count) + sum : sum, count);
}

// Of `vectors` side by side as many as are summed at once: a divisor with which the sums of all rows, what
// several rows are multiplied with and one value of A have registers of their own. A sum in memory would
// wait for each store.
constexpr index vectors_at_once(index rows, index vectors) {
    const index shared = rows > 1 ? 1 : 0;
    index most = vectors;
    while (vectors % most != 0 || (rows + shared) * most >= vector_registers) --most;
    return most;
}

template <class T, class P, index Rows, index Width>
PENSTOCK_INLINE void multiply_tile(const Product<T, P>& p, index row, index rows, const Slice<P>& slice) {
    constexpr index panel = panel_width<T>, lanes = Simd<T>::lanes, vectors = Width * panel_parts<T>;
    constexpr index at_once = vectors_at_once(Rows, vectors);
    const T* a[Rows];
    T* c[Rows];
    for (index i = 0; i < Rows; ++i) {
        a[i] = p.a[row + i] + slice.a_offset;
        c[i] = p.c[row + i] + p.c_offset;
    }
    const bool add = !slice.first || p.accumulate, whole = p.columns == Width * panel;
    const index b_stride = p.b_stride ? p.b_stride : Width * panel;

    if (p.a_is_far)
        for (index i = row + Rows; i < min(row + Rows + tile_rows, rows); ++i)
            for (index k = 0; k < slice.depth.run; k += panel)
                __builtin_prefetch(p.a[i] + slice.a_offset + k);

    if (p.c_is_far && slice.first)
        for (index i = 0; i < Rows; ++i)
            for (index v = 0; v < Width; ++v) __builtin_prefetch(c[i] + v * panel, 1);

    for (index from = 0; from < vectors; from += at_once) {
        // The tiles of a slice bring in the slice after it, a line for each k: each a part of it in turn, and
        // the smaller one at the end also the next part, which after few rows nobody else would. One or two
        // rows have no time for that.
        constexpr bool two_parts = at_once == vectors && Rows < tile_rows && Rows > 2;
        const index turn = row / tile_rows + from / at_once;
        const P* ahead = slice.b_after + turn % Width * depth_block * panel;
        const P* further = slice.b_after + (turn + 1) % Width * depth_block * panel;

        Vec<T> sum[Rows][at_once] = {};
        const P* values = slice.b + from * lanes;
        for (index block = 0; block < slice.depth.blocks; ++block) {
            index at = block * slice.depth.stride;
            for (index k = 0; k < slice.depth.run; ++k, at += slice.depth.step) {
                __builtin_prefetch(ahead + k * panel);
                if constexpr (two_parts) __builtin_prefetch(further + k * panel);
                Vec<T> column[at_once];
                for (index v = 0; v < at_once; ++v) column[v] = Values<T, P>::read(values + v * lanes);
                values += b_stride;
                for (index i = 0; i < Rows; ++i) {
                    const Vec<T> value = broadcast(a[i][at]);
                    for (index v = 0; v < at_once; ++v) sum[i][v] += value * column[v];
                }
            }
        }
        if (p.bias && slice.first)
#pragma GCC unroll 8
            for (index v = 0; v < at_once; ++v) {
                const Vec<T> bias = load(p.bias + (from + v) * lanes);
                for (index i = 0; i < Rows; ++i) sum[i][v] += bias;
            }
#pragma GCC unroll 6
        for (index i = 0; i < Rows; ++i)
#pragma GCC unroll 8
            for (index v = 0; v < at_once; ++v) {
                const index at = (from + v) * lanes;
                if (!whole) write_edge<T>(c[i] + at, sum[i][v], p.columns - at, add);
                else store(c[i] + at, add ? load(c[i] + at) + sum[i][v] : sum[i][v]);
            }
    }
}

template <class T, class P, index Width>
PENSTOCK_INLINE void multiply_rows(const Product<T, P>& p, index rows, const Slice<P>& slice) {
    index row = 0;
    for (; row + tile_rows <= rows; row += tile_rows)
        multiply_tile<T, P, tile_rows, Width>(p, row, rows, slice);
    switch (rows - row) {
        case 1: return multiply_tile<T, P, 1, Width>(p, row, rows, slice);
        case 2: return multiply_tile<T, P, 2, Width>(p, row, rows, slice);
        case 3: return multiply_tile<T, P, 3, Width>(p, row, rows, slice);
        case 4: return multiply_tile<T, P, 4, Width>(p, row, rows, slice);
        case 5: return multiply_tile<T, P, 5, Width>(p, row, rows, slice);
        default: return;
    }
}

// One row and two slices of the same depth at once, as its few sums alone would wait for one another. They
// are summed apart and added in their order: the bits are those of one after the other.
template <class T, class P, index Width>
PENSTOCK_INLINE void multiply_row(const Product<T, P>& p, const Slice<P> (&slices)[2]) {
    constexpr index lanes = Simd<T>::lanes, vectors = Width * panel_parts<T>;
    constexpr index at_once = vectors_at_once(2, vectors);
    const index b_stride = p.b_stride ? p.b_stride : Width * panel_width<T>;
    const Depth depth = slices[0].depth;
    const T* const a[] = {p.a[0] + slices[0].a_offset, p.a[0] + slices[1].a_offset};
    T* const c = p.c[0] + p.c_offset;
    for (index from = 0; from < vectors; from += at_once) {
        Vec<T> sum[2][at_once] = {};
        index values = from * lanes;
        for (index block = 0; block < depth.blocks; ++block) {
            index at = block * depth.stride;
            for (index k = 0; k < depth.run; ++k, at += depth.step, values += b_stride)
                for (index n = 0; n < 2; ++n) {
                    const Vec<T> value = broadcast(a[n][at]);
                    for (index v = 0; v < at_once; ++v)
                        sum[n][v] += value * Values<T, P>::read(slices[n].b + values + v * lanes);
                }
        }
        for (index v = 0; v < at_once; ++v) {
            const index at = (from + v) * lanes, valid = p.columns - at;
            if (p.bias && slices[0].first) sum[0][v] += load(p.bias + at);
            const bool add = !slices[0].first || p.accumulate;
            const Vec<T> before = add ? load_partial(c + at, valid) + sum[0][v] : sum[0][v];
            store_partial(c + at, before + sum[1][v], valid);
        }
    }
}

template <class T, class P, index Width>
__attribute__((noinline)) void multiply_width(const Product<T, P>& p, index rows) {
    // Whether the sums of a single row are so few that they would wait for one another.
    constexpr bool pairs_slices = vectors_at_once(1, Width * panel_parts<T>) < 6;
    const Depth whole = p.depth;
    const bool plain = whole.blocks == 1;
    const index blocks = plain ? 1 : max(1, depth_block / whole.run);  // of a slice
    const index step = plain ? depth_block : blocks * whole.run;
    const index row_of_b = p.b_stride ? p.b_stride : Width * panel_width<T>;
    const auto slice_at = [&](index k) {
        Depth depth{min(depth_block, whole.run - k), 1, 0, whole.step};
        index a_offset = k * whole.step;
        if (!plain) {
            const index block = k / whole.run;
            depth = {whole.run, min(blocks, whole.blocks - block), whole.stride, whole.step};
            a_offset = block * whole.stride;
        }
        const P *b = p.b + k * row_of_b, *behind = b + depth.total() * row_of_b;
        const bool last = k + depth.total() == whole.total();
        return Slice<P>{depth, p.a_offset + a_offset, b, last && p.b_after ? p.b_after : behind, k == 0};
    };
    for (index k = 0; k == 0 || k < whole.total(); k += step) {
        const Slice<P> slice = slice_at(k);
        if (!pairs_slices || rows > 1 || k + 2 * step > whole.total())
            multiply_rows<T, P, Width>(p, rows, slice);
        else {
            k += step;
            multiply_row<T, P, Width>(p, {slice, slice_at(k)});
        }
    }
}

template <class T, class P = T> void multiply(const Product<T, P>& p, index rows) {
    if (rows <= 0 || p.columns <= 0) return;
    switch (p.width) {
        case 1: return multiply_width<T, P, 1>(p, rows);
        case 2: return multiply_width<T, P, 2>(p, rows);
        case 3: return multiply_width<T, P, 3>(p, rows);
        default: return multiply_width<T, P, 4>(p, rows);
    }
}

// The panels of a matrix of `columns` columns: groups of up to `width` panels, each packed on its own.
template <class T> struct Columns {
    index columns;
    index group_panels = max_width;
    index padded() const { return divide_up(columns, panel_width<T>) * panel_width<T>; }
    index groups() const { return divide_up(columns, group_panels * panel_width<T>); }
    index begin(index group) const { return group * group_panels * panel_width<T>; }
    index width(index group) const { return min(group_panels, (padded() - begin(group)) / panel_width<T>); }
    index valid(index group) const { return min(group_panels * panel_width<T>, columns - begin(group)); }
};

// Copies `count` values of a row and fills up with zeros to `padded`.
template <class T, class P>
PENSTOCK_INLINE void copy_padded(T* to, const P* from, index count, index padded) {
    index j = 0;
    for (; j + Simd<T>::lanes <= count; j += Simd<T>::lanes) store(to + j, Values<T, P>::read(from + j));
    for (; j < count; ++j) to[j] = Values<T, P>::read_one(from + j);
    for (; j < padded; ++j) to[j] = T(0);
}

}  // namespace penstock::PENSTOCK_ISA
