// Inner products of a few rows with the rows of a matrix as it is: for the single steps of which packing
// would cost more than it saves.
#pragma once

#include "gemm.hpp"

namespace penstock::PENSTOCK_ISA {

// How inner products read operands of type P that are summed in T; bf16 has its own (bf16.hpp).
template <class T, class P> struct Operand {
    using vector = Vec<T>;
    static constexpr index count = Simd<T>::lanes;
    PENSTOCK_INLINE static vector read(const P* p) { return load(p); }
    PENSTOCK_INLINE static vector read(const P* p, index valid) { return load_partial(p, valid); }
    PENSTOCK_INLINE static Vec<T> added(Vec<T> sum, vector a, vector b) { return sum + a * b; }
};

constexpr index inner_rows = vector_registers == 32 ? 4 : 3;

// Some rows of A, and rows of W one after the other.
template <class P, index Rows> struct Inner {
    const P* a[Rows];
    const P* w;
    index depth;
};

// The inner products of the rows of A with up to a vector's width of rows of W, summed over one or two such
// factors, side by side; zeros beyond `count`. For the few rows of a single step this is cheaper than packing
// the matrix first. In registers each of some rows of W meets every row of A.
template <class T, class P, index Rows, int N>
__attribute__((noinline)) void inner_products(const Inner<P, Rows> (&factors)[N], index count,
                                              Vec<T>* results) {
    using O = Operand<T, P>;
    constexpr index lanes = Simd<T>::lanes, at_once = lanes < 8 || Rows > 1 ? 4 : 8;
    Vec<T> sum[Rows][lanes < at_once ? at_once : lanes];
    for (index j = 0; j < lanes; j += at_once) {
        Vec<T> part[Rows][at_once] = {};
        for (const Inner<P, Rows>& f : factors) {
            const P* from[at_once];
            for (index n = 0; n < at_once; ++n) from[n] = f.w + min(j + n, count - 1) * f.depth;
            const P* ahead = f.w + (j + 2 * at_once) * f.depth;  // rows to come, from end to end
            index k = 0;
            for (; k + O::count <= f.depth; k += O::count, ahead += at_once * O::count) {
                typename O::vector value[Rows];
                for (index i = 0; i < Rows; ++i) value[i] = O::read(f.a[i] + k);
#pragma GCC unroll 8
                for (index n = 0; n < at_once; ++n) {
                    const typename O::vector other = O::read(from[n] + k);
                    if (Rows > 1 && n * O::count * sizeof(P) % 64 == 0)
                        __builtin_prefetch(ahead + n * O::count);
                    for (index i = 0; i < Rows; ++i) part[i][n] = O::added(part[i][n], value[i], other);
                }
            }
            if (k < f.depth)
                for (index n = 0; n < at_once; ++n) {
                    const typename O::vector other = O::read(from[n] + k, f.depth - k);
                    for (index i = 0; i < Rows; ++i)
                        part[i][n] = O::added(part[i][n], O::read(f.a[i] + k, f.depth - k), other);
                }
        }
        for (index i = 0; i < Rows; ++i)
            for (index n = 0; n < at_once; ++n) sum[i][j + n] = part[i][n];
    }
    for (index i = 0; i < Rows; ++i) {
        results[i] = sums<T>(sum[i]);
        if (count < lanes) results[i] = load_partial(reinterpret_cast<const T*>(&results[i]), count);
    }
}

// Whether a vector is as wide as a panel.
template <class T> constexpr bool wide_vectors = panel_parts<T> == 1;

// The same for a batch of one row, and wide vectors: rows of W one after the other, as the processor itself
// fetches ahead best. Narrow ones would spend more on the ends of rows than on the rows.
template <class T, class P, int N>
__attribute__((noinline)) Vec<T> inner_products_of_one(const Inner<P, 1> (&factors)[N], index count) {
    using O = Operand<T, P>;
    constexpr index lanes = Simd<T>::lanes, at_once = 4;
    Vec<T> sum[lanes] = {};
    for (index j = 0; j < count; ++j) {
        Vec<T> part[at_once] = {};
        for (const Inner<P, 1>& f : factors) {
            const P *a = f.a[0], *from = f.w + j * f.depth;
            index k = 0;
            for (; k + at_once * O::count <= f.depth; k += at_once * O::count)
#pragma GCC unroll 4
                for (index n = 0; n < at_once; ++n)
                    part[n] =
                        O::added(part[n], O::read(a + k + n * O::count), O::read(from + k + n * O::count));
            for (; k + O::count <= f.depth; k += O::count)
                part[0] = O::added(part[0], O::read(a + k), O::read(from + k));
            if (k < f.depth)
                part[0] = O::added(part[0], O::read(a + k, f.depth - k), O::read(from + k, f.depth - k));
        }
        sum[j] = (part[0] + part[1]) + (part[2] + part[3]);
    }
    return sums<T>(sum);
}

}  // namespace penstock::PENSTOCK_ISA
