// Weights as the products take them. Packing is shared out: a team packs groups side by side.
#pragma once

#include "pairs.hpp"
#include "sizes.hpp"
#include "tiles.hpp"

namespace penstock::PENSTOCK_ISA {

// Transposes `count` rows (at most a panel) of `depth` values, `stride` apart, into columns of `packed`,
// whose rows are `width` apart. A panel's missing rows become zeros.
template <index Parts, class T>
bool pack_panel(T* packed, index width, const T* rows, index stride, index depth, index count) {
    static_assert(Parts == 0);
    constexpr index lanes = Simd<T>::lanes, ahead = 4 * panel_width<T>;
    for (index k = 0; k < depth; k += lanes) {
        const index left = min(lanes, depth - k);
        for (index first = 0; first < panel_width<T>; first += lanes) {
            const index valid = max(0, min(lanes, count - first));
            const T* from = rows + first * stride + k;
            Vec<T> block[lanes];
            if (left == lanes && valid == lanes) {
#pragma GCC unroll 16
                for (index j = 0; j < lanes; ++j) {
                    __builtin_prefetch(from + j * stride + ahead);
                    block[j] = load(from + j * stride);
                }
            } else {
                for (index j = 0; j < lanes; ++j)
                    block[j] = j < valid ? load_partial(from + j * stride, left) : Vec<T>{};
            }
            transpose<T>(block);
            for (index i = 0; i < left; ++i) store(packed + (k + i) * width + first, block[i]);
        }
    }
    return false;
}

#if defined(__AVX512BF16__)
template <class M> struct TilesFor : Tiles {};
template <class T> struct TilesFor<Exact<T>> {};
#else
template <class M> struct TilesFor {};
#endif
// From one panel of what is packed to the next.
template <class M, class T> constexpr index panel_distance = rounds<M> ? next_panel : panel_width<T>;

// (step, row) pairs of an input product hoisted out of the recurrence.
template <class M> constexpr index chunk_rows = M::parts > 1 ? 256 : 96;

// Whether both products of a cell reach the same slots.
template <class C>
constexpr bool one_span = C::input.begin == C::recurrent.begin && C::input.count == C::recurrent.count;

// Whether an operand that should have been split is infinite: any thread may say so.
class Infinity {
  public:
    void met(bool now) const {
        if (now) __atomic_store_n(&met_, true, __ATOMIC_RELAXED);
    }
    bool met() const { return __atomic_load_n(&met_, __ATOMIC_RELAXED); }

  private:
    mutable bool met_ = false;
};

// Whether the recurrent products of a step go through tiles too, where the others do. Split weights are half
// as large again: where they come from memory and meet few rows, reading them takes longer than vectors take
// to multiply.
template <class M, class C, class T> bool rounds_steps(const Sizes<C, T>& sizes, const Layout& layout) {
    constexpr index many_rows = 24, far_weights = 8 << 20;  // of a step; bytes, as float32
    if (M::parts < 2) return rounds<M>;
    return layout.rows >= many_rows * layout.steps ||
           sizes.gates * sizes.outputs * index(sizeof(float)) <= far_weights;
}

// A matrix of gates (G*H, depth), for A * W^T: `span` of group after group, depth x (panels * span.count).
template <class C, class T, class M> struct GateWeights {
    using Matrix = typename M::Matrix;
    using Kept = typename M::Kept;
    const Matrix* matrix;
    index depth;
    Span span;
    const int* gate;
    Kept* packed;

    GateWeights(Arena& arena, const Matrix* matrix_, index depth_, Span span_, const int* gate_,
                const Sizes<C, T>& sizes, bool direct)
        : matrix(matrix_),
          depth(depth_),
          span(span_),
          gate(gate_),
          packed(direct ? nullptr : arena.take<Kept>(sizes.units * span.count * kept_depth<M>(depth))) {}

    // The row of the matrix for a unit in one slot.
    const Matrix* row(const Sizes<C, T>& sizes, index unit, index slot) const {
        return matrix + (gate[slot] * sizes.hidden + unit) * depth;
    }
    // Panels of units that a product takes at once: all of a group, but by vectors one with several slots.
    static constexpr index at_once = C::slots == 1 || (rounds<M> && by_tiles) ? Sizes<C, T>::group : index(1);

    // What is packed from a panel on.
    Kept* at(const Sizes<C, T>& sizes, index q) const {
        return packed + q * span.count * sizes.panel * kept_depth<M>(depth);
    }
    Kept* group(const Sizes<C, T>& sizes, index g) const { return at(sizes, g * sizes.group); }

    void pack(const Sizes<C, T>& sizes, const Team& team, const Infinity& infinity) const {
        const index end = min(team.end(sizes.groups()) * sizes.group, sizes.panels);
        for (index q = team.begin(sizes.groups()) * sizes.group; q < end; q += at_once)
            pack_panels(sizes, q, min(at_once, end - q), infinity);
    }
    void pack_panels(const Sizes<C, T>& sizes, index first, index count, const Infinity& infinity) const {
        const index width = count * span.count * sizes.panel;
        Kept* to = at(sizes, first);
        for (index q = first; q < first + count; ++q)
            for (index slot = span.begin; slot < span.begin + span.count; ++slot) {
                infinity.met(pack_panel<M::parts>(to, width, row(sizes, q * sizes.panel, slot), depth, depth,
                                                  sizes.hidden - q * sizes.panel));
                to += panel_distance<M, T>;
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

// In which order the gates of a row are rounded: as they lie in memory, panel by panel, where both products
// reach all slots, else slot by slot, so that those which a product reaches lie together.
template <class C, class T> struct RoundedOrder {
    static constexpr bool by_panel = one_span<C>;
    static constexpr index panel = panel_width<T>;
    const Sizes<C, T>& sizes;

    // Values that lie together, and with the zeros after them: of all slots, or of one.
    index run() const { return by_panel ? sizes.gates : sizes.units; }
    index padded_run() const { return padded_depth(run()); }
    index runs(Span span) const { return by_panel ? 1 : span.count; }
    index depth(Span span) const { return runs(span) * padded_run(); }
    index begin(Span span) const { return by_panel ? 0 : span.begin * padded_run(); }

    index place(index q, index slot) const {
        return by_panel ? (q * C::slots + slot) * panel : slot * padded_run() + q * panel;
    }
    // What lies at value k of a span; no unit of the layer if beyond the last.
    struct Place { index slot, unit; };
    Place at(index k, Span span) const {
        if (by_panel) return {k / panel % C::slots, k / (C::slots * panel) * panel + k % panel};
        return {span.begin + k / padded_run(), k % padded_run()};
    }
};

// The same, rounded, its rows in that order.
template <class M, class C, class T>
void pack_gates_rounded(bf16* packed, const typename M::Matrix* matrix, Columns<T> shape, Span span,
                        const int* gate, const Sizes<C, T>& sizes, const Team& team,
                        const Infinity& infinity) {
#if defined(__AVX512BF16__)
    constexpr index panel = panel_width<T>;
    const RoundedOrder<C, T> order{sizes};
    const index depth = order.depth(span);
    const auto row = [&](index k, index begin) -> const typename M::Matrix* {
        const auto [slot, unit] = order.at(k, span);
        const bool exists = unit < sizes.hidden;
        return exists ? matrix + (gate[slot] * sizes.hidden + unit) * shape.columns + begin : nullptr;
    };
    for (index group = team.begin(shape.groups()); group < team.end(shape.groups()); ++group) {
        const index width = shape.width(group) * panel, begin = shape.begin(group);
        bf16* to = packed + begin * depth * M::parts;
        for (index k = 0; k < depth; k += 2)
            infinity.met(pack_pair<M::parts>(to + pair_place<M::parts>(k, width), row(k, begin),
                                             row(k + 1, begin), shape.valid(group), width));
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
            pack_panel<0>(packed + shape.begin(group) * depth + j, width,
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
