// Packed panels and the one micro-kernel through which every matrix product of the library goes.
//
//   C[m, 0:columns] (+)= bias + sum over k of A[m, k] * B[k, 0:columns]
//
// B is packed: for each k, `width` panels (1 to 4) side by side, `width * panel_width` values, zero padded.
// The rows of A and C are given by their addresses, so that strided, permuted and ragged matrices need no
// copy. Every element is summed over k in the same order whatever the number of rows: results do not depend
// on how rows are shared out among threads.
#pragma once

#include "simd.hpp"

namespace penstock::PENSTOCK_ISA {

#if PENSTOCK_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr index tile_rows = 6;  // 6 x 4 accumulators of 32 registers
#else
constexpr index tile_rows = 3;  // 3 x 4 accumulators of 16 registers
#endif
constexpr index max_width = 4;
constexpr index depth_block = 32;  // k's summed at once; their slice of B stays in the first-level cache

// How k walks along a row of A: `blocks` runs of `run` values, `step` apart inside a run; `stride` from the
// start of one run to the next. A plain row is one run with step 1; the gates of a GRU are one run a panel.
struct Depth {
    index run, blocks = 1, stride = 0, step = 1;
    index total() const { return run * blocks; }
};

template <class T> struct Product {
    const T* const* a;   // rows of A
    index a_offset = 0;  // added to each row address
    Depth depth;
    const T* b;   // packed, depth.total() x (width * panel_width)
    index width;  // panels, 1 to 4
    T* const* c;  // rows of C
    index c_offset = 0;
    index columns;            // valid columns of C, at most width * panel_width
    const T* bias = nullptr;  // width * panel_width values added to each row; needs accumulate == false
    bool accumulate = false;
};

// The first `count` values of a vector: stored, or added to what is there.
template <class T> PENSTOCK_INLINE void put(T* out, Vec<T> values, index count) {
    if (count >= Simd<T>::lanes) return store(out, values);
    T edge[Simd<T>::lanes];
    store(edge, values);
    for (index j = 0; j < count; ++j) out[j] = edge[j];
}
template <class T> PENSTOCK_INLINE void add(T* out, Vec<T> values, index count) {
    T edge[Simd<T>::lanes];
    store(edge, values);
    for (index j = 0; j < min(count, Simd<T>::lanes); ++j) out[j] += edge[j];
}

// A slice of k is summed from zero and then added to C: over many k's the rounding errors of two short sums
// grow far more slowly than those of one long one.
template <class T, index Rows, index Width>
PENSTOCK_INLINE void multiply_tile(const Product<T>& p, index row, Depth depth, index a_skip, const T* b,
                                   bool first) {
    constexpr index panel = panel_width<T>, lanes = Simd<T>::lanes;
    const T* a[Rows];
    for (index i = 0; i < Rows; ++i) a[i] = p.a[row + i] + p.a_offset + a_skip;

    for (index part = 0; part < panel_parts<T>; ++part) {
        Vec<T> sum[Rows][Width] = {};
        const T* values = b + part * lanes;
        for (index block = 0; block < depth.blocks; ++block) {
            index at = block * depth.stride;
            for (index k = 0; k < depth.run; ++k, at += depth.step, values += Width * panel) {
                Vec<T> column[Width];
                for (index v = 0; v < Width; ++v) column[v] = load(values + v * panel);
                for (index i = 0; i < Rows; ++i) {
                    const Vec<T> value = broadcast(a[i][at]);
                    for (index v = 0; v < Width; ++v) sum[i][v] += value * column[v];
                }
            }
        }

        const bool whole = p.columns == Width * panel;
        for (index i = 0; i < Rows; ++i)
            for (index v = 0; v < Width; ++v) {
                const index at = v * panel + part * lanes;
                T* out = p.c[row + i] + p.c_offset + at;
                if (first && !p.accumulate) {
                    if (p.bias) sum[i][v] += load(p.bias + at);
                    put(out, sum[i][v], whole ? lanes : p.columns - at);
                } else if (whole) {
                    store(out, load(out) + sum[i][v]);
                } else {
                    add(out, sum[i][v], p.columns - at);
                }
            }
    }
}

template <class T, index Width>
PENSTOCK_INLINE void multiply_rows(const Product<T>& p, index rows, Depth depth, index a_skip, const T* b,
                                   bool first) {
    index row = 0;
    for (; row + tile_rows <= rows; row += tile_rows)
        multiply_tile<T, tile_rows, Width>(p, row, depth, a_skip, b, first);
    switch (rows - row) {
        case 1: return multiply_tile<T, 1, Width>(p, row, depth, a_skip, b, first);
        case 2: return multiply_tile<T, 2, Width>(p, row, depth, a_skip, b, first);
#if PENSTOCK_VECTOR_BYTES == 64 || defined(__aarch64__)
        case 3: return multiply_tile<T, 3, Width>(p, row, depth, a_skip, b, first);
        case 4: return multiply_tile<T, 4, Width>(p, row, depth, a_skip, b, first);
        case 5: return multiply_tile<T, 5, Width>(p, row, depth, a_skip, b, first);
#endif
        default: return;
    }
}

template <class T, index Width> __attribute__((noinline)) void multiply_width(const Product<T>& p,
                                                                              index rows) {
    const Depth whole = p.depth;
    const index row_of_b = Width * panel_width<T>;
    if (whole.blocks == 1) {
        for (index k = 0; k == 0 || k < whole.run; k += depth_block) {
            const Depth slice{min(depth_block, whole.run - k), 1, 0, whole.step};
            multiply_rows<T, Width>(p, rows, slice, k * whole.step, p.b + k * row_of_b, k == 0);
        }
        return;
    }
    const index blocks = max(1, depth_block / whole.run);
    for (index block = 0; block < whole.blocks; block += blocks) {
        const Depth slice{whole.run, min(blocks, whole.blocks - block), whole.stride, whole.step};
        const T* b = p.b + block * whole.run * row_of_b;
        multiply_rows<T, Width>(p, rows, slice, block * whole.stride, b, block == 0);
    }
}

template <class T> void multiply(const Product<T>& p, index rows) {
    if (rows <= 0 || p.columns <= 0) return;
    switch (p.width) {
        case 1: return multiply_width<T, 1>(p, rows);
        case 2: return multiply_width<T, 2>(p, rows);
        case 3: return multiply_width<T, 3>(p, rows);
        default: return multiply_width<T, 4>(p, rows);
    }
}

// The panels of a matrix of `columns` columns: groups of up to four panels, each packed on its own.
template <class T> struct Columns {
    index columns;
    index padded() const { return divide_up(columns, panel_width<T>) * panel_width<T>; }
    index groups() const { return divide_up(columns, max_width * panel_width<T>); }
    index begin(index group) const { return group * max_width * panel_width<T>; }
    index width(index group) const { return min(max_width, (padded() - begin(group)) / panel_width<T>); }
    index valid(index group) const { return min(max_width * panel_width<T>, columns - begin(group)); }
};

// Copies `count` values of a row and fills up with zeros to `padded`.
template <class T> PENSTOCK_INLINE void copy_padded(T* to, const T* from, index count, index padded) {
    for (index j = 0; j < count; ++j) to[j] = from[j];
    for (index j = count; j < padded; ++j) to[j] = T(0);
}

// Packs rows [0, depth) of B, given by their addresses (nullptr: a row of zeros), one group after another.
template <class T> void pack_rows(T* packed, const T* const* rows, index depth, Columns<T> shape) {
    for (index group = 0; group < shape.groups(); ++group) {
        const index width = shape.width(group) * panel_width<T>;
        for (index k = 0; k < depth; ++k, packed += width)
            copy_padded(packed, rows[k] ? rows[k] + shape.begin(group) : nullptr,
                        rows[k] ? shape.valid(group) : 0, width);
    }
}

}  // namespace penstock::PENSTOCK_ISA
