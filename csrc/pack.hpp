// Weights as the products take them. Packing is shared out: a team packs groups side by side.
#pragma once

#include "bf16.hpp"
#include "sizes.hpp"

namespace penstock::PENSTOCK_ISA {

// Transposes `count` rows (at most a panel) of `depth` values, `stride` apart, into columns of `packed`,
// whose rows are `width` apart. A panel's missing rows become zeros.
template <class T>
void pack_panel(T* packed, index width, const T* rows, index stride, index depth, index count) {
    constexpr index lanes = Simd<T>::lanes;
    for (index first = 0; first < panel_width<T>; first += lanes, packed += lanes) {
        const index valid = max(0, min(lanes, count - first));
        const T* from = rows + first * stride;
        for (index k = 0; k < depth; k += lanes) {
            const index left = min(lanes, depth - k);
            Vec<T> block[lanes];
            if (left == lanes && valid == lanes) {
#pragma GCC unroll 16
                for (index j = 0; j < lanes; ++j) block[j] = load(from + j * stride + k);
            } else {
                for (index j = 0; j < lanes; ++j)
                    block[j] = j < valid ? load_partial(from + j * stride + k, left) : Vec<T>{};
            }
            transpose<T>(block);
            for (index i = 0; i < left; ++i) store(packed + (k + i) * width, block[i]);
        }
    }
}

// Operands of the products: T itself, or T rounded to bf16.
template <class P> constexpr bool rounds = same<P, bf16>;
template <class P> PENSTOCK_INLINE index operand_depth(index depth) {
    return rounds<P> ? padded_depth(depth) : depth;
}
#if defined(__AVX512BF16__)
template <class P> struct TilesFor {};
template <> struct TilesFor<bf16> : Tiles {};
#else
template <class P> struct TilesFor {};
#endif
template <class P> constexpr index values_a_column = rounds<P> ? 2 : 1;  // of B, in one row of what is packed

// A matrix of gates (G*H, depth), for A * W^T: `span` of group after group, depth x (panels * span.count).
template <class C, class T, class P> struct GateWeights {
    const P* matrix;
    index depth;
    Span span;
    const int* gate;
    P* packed;

    GateWeights(Arena& arena, const P* matrix_, index depth_, Span span_, const int* gate_,
                const Sizes<C, T>& sizes, bool direct)
        : matrix(matrix_),
          depth(depth_),
          span(span_),
          gate(gate_),
          packed(direct ? nullptr : arena.take<P>(sizes.units * span.count * operand_depth<P>(depth))) {}

    // Rows of the matrix: those of a panel of units in one slot.
    const P* rows(const Sizes<C, T>& sizes, index q, index slot) const {
        return matrix + (gate[slot] * sizes.hidden + q * sizes.panel) * depth;
    }
    P* group(const Sizes<C, T>& sizes, index g) const {
        return packed + g * sizes.group * span.count * sizes.panel * operand_depth<P>(depth);
    }

    void pack(const Sizes<C, T>& sizes, const Team& team) const {
        for (index g = team.begin(sizes.groups()); g < team.end(sizes.groups()); ++g) {
            const index width = sizes.group_panels(g) * span.count * sizes.panel;
            P* to = group(sizes, g);
            for (index q = g * sizes.group; q < g * sizes.group + sizes.group_panels(g); ++q)
                for (index slot = span.begin; slot < span.begin + span.count; ++slot) {
                    pack_panel(to, width, rows(sizes, q, slot), depth, depth, sizes.hidden - q * sizes.panel);
                    to += sizes.panel * values_a_column<P>;
                }
        }
    }
};

// Operands packed for products of T, or rounded for those of bf16.
template <class T> struct Packed {
    void* values;
    T* exact() const { return static_cast<T*>(values); }
    bf16* rounded() const { return static_cast<bf16*>(values); }
};

// The same matrix (G*H, columns) for A * W, its rows in the order of the gates in memory: panel by panel.
template <class C, class T, class P>
void pack_gates_transposed(T* packed, const P* matrix, Columns<T> shape, Span span, const int* gate,
                           const Sizes<C, T>& sizes, const Team& team) {
    constexpr index panel = panel_width<T>;
    const index depth = sizes.units * span.count;
    for (index group = team.begin(shape.groups()); group < team.end(shape.groups()); ++group) {
        const index width = shape.width(group) * panel;
        T* to = packed + shape.begin(group) * depth;
        for (index q = 0; q < sizes.panels; ++q)
            for (index slot = span.begin; slot < span.begin + span.count; ++slot) {
                const index valid = min(panel, sizes.hidden - q * panel);
                const P* from =
                    matrix + (gate[slot] * sizes.hidden + q * panel) * shape.columns + shape.begin(group);
                for (index lane = 0; lane < valid; ++lane, to += width, from += shape.columns)
                    copy_padded(to, from, shape.valid(group), width);
                zero(to, (panel - valid) * width);
                to += (panel - valid) * width;
            }
    }
}

// The same, rounded.
template <class C, class T>
void pack_gates_rounded(bf16* packed, const bf16* matrix, Columns<T> shape, Span span, const int* gate,
                        const Sizes<C, T>& sizes, const Team& team) {
#if defined(__AVX512BF16__)
    constexpr index panel = panel_width<T>;
    const index depth = padded_depth(sizes.units * span.count);
    const auto row = [&](index k, index begin) -> const bf16* {
        const index slot = span.begin + k / panel % span.count;
        const index unit = k / (span.count * panel) * panel + k % panel;
        const bool exists = unit < sizes.hidden;
        return exists ? matrix + (gate[slot] * sizes.hidden + unit) * shape.columns + begin : nullptr;
    };
    for (index group = team.begin(shape.groups()); group < team.end(shape.groups()); ++group) {
        const index width = shape.width(group) * panel, begin = shape.begin(group);
        bf16* to = packed + begin * depth;
        for (index k = 0; k < depth; k += 2, to += 2 * width)
            pack_pair(to, row(k, begin), row(k + 1, begin), shape.valid(group), width);
    }
#endif
}

// A matrix (rows, columns) for A * W.
template <class T> void pack_matrix(T* packed, const T* matrix, index rows, Columns<T> shape,
                                    const Team& team) {
    for (index group = team.begin(shape.groups()); group < team.end(shape.groups()); ++group) {
        const index width = shape.width(group) * panel_width<T>;
        T* to = packed + shape.begin(group) * rows;
        for (index k = 0; k < rows; ++k, to += width)
            copy_padded(to, matrix + k * shape.columns + shape.begin(group), shape.valid(group), width);
    }
}

// A matrix (rows, depth) for A * W^T.
template <class T>
void pack_transposed(T* packed, const T* matrix, Columns<T> shape, index depth, const Team& team) {
    constexpr index panel = panel_width<T>;
    for (index group = team.begin(shape.groups()); group < team.end(shape.groups()); ++group) {
        const index width = shape.width(group) * panel;
        for (index j = 0; j < width; j += panel)
            pack_panel(packed + shape.begin(group) * depth + j, width,
                       matrix + (shape.begin(group) + j) * depth, depth, depth,
                       shape.columns - shape.begin(group) - j);
    }
}

// The sum of both biases where both products reach a slot: group by group like the gates.
template <class C, class T, class P>
void pack_bias(T* packed, const Weights<const T, const P>& w, const Sizes<C, T>& sizes, const Team& team) {
    constexpr index panel = panel_width<T>;
    for (index q = team.begin(sizes.panels); q < team.end(sizes.panels); ++q)
        for (int slot = 0; slot < C::slots; ++slot) {
            T* to = packed + q * sizes.unit_gates + slot * panel;
            const index in = C::input_gate[slot], re = C::recurrent_gate[slot];
            const index valid = min(panel, sizes.hidden - q * panel), at = q * panel;
            for (index lane = 0; lane < panel; ++lane) to[lane] = T(0);
            if (in >= 0 && w.bias_ih)
                for (index lane = 0; lane < valid; ++lane)
                    to[lane] += w.bias_ih[in * sizes.hidden + at + lane];
            if (re >= 0 && w.bias_hh)
                for (index lane = 0; lane < valid; ++lane)
                    to[lane] += w.bias_hh[re * sizes.hidden + at + lane];
        }
}

template <class C, class T>
void pack_peephole(T* packed, const T* peephole, const Sizes<C, T>& sizes, const Team& team) {
    for (index k = team.begin(3); k < team.end(3); ++k)
        copy_padded(packed + k * sizes.units, peephole + k * sizes.hidden, sizes.hidden, sizes.units);
}

}  // namespace penstock::PENSTOCK_ISA
