// Products of the gates with the weights as they are, for the few rows of a single step.
#pragma once

#include "inner.hpp"
#include "pack.hpp"

namespace penstock::PENSTOCK_ISA {

// Rows of A: where they are, and where they are rounded for the products that want them so.
template <class T> struct Operands {
    const T* const* rows;
    const bf16* rounded;
};

// One factor: rows of A with the weights of some slots.
template <class C, class T, class M> struct Direct {
    using Matrix = typename M::Matrix;
    const GateWeights<C, T, M>& weights;
    Operands<T> a;

    bool reaches(index slot) const {
        return slot >= weights.span.begin && slot < weights.span.begin + weights.span.count;
    }
    const Matrix* operand(index row) const {
        if constexpr (same<Matrix, bf16>) return a.rounded + row * kept_depth<M>(weights.depth);
        else return a.rows[row];
    }
};

// Groups of units, in their order or back to front.
struct GroupRange {
    index first, last;
    bool back = false;
};

// Calls f(k) for each k of [first, last).
template <class F> PENSTOCK_INLINE void there_or_back(bool back, index first, index last, F f) {
    for (index k = first; k < last; ++k) f(back ? first + last - 1 - k : k);
}

// The products of some groups of units, into the rows of their gates: from a bias, or on top of what is
// there. Slot by slot, so that each matrix is read from end to end. gates(group, row): where a row of the
// gates of a group lies.
template <class C, class T, class M, class Gates> class DirectProducts {
  public:
    using Factor = Direct<C, T, M>;

    // batch: of the call, whatever the rows of this thread: the order of the sums depends on it.
    // bias: of all gates.
    DirectProducts(const Sizes<C, T>& sizes, index batch, GroupRange groups, Gates gates, index rows,
                   const T* bias)
        : sizes_(sizes),
          row_by_row_(wide_vectors<T> && batch == 1),
          groups_(groups),
          gates_(gates),
          rows_(rows),
          bias_(bias) {}

    void compute(const Factor& one) const {
        const Span span = one.weights.span;
        there_or_back(groups_.back, span.begin, span.begin + span.count,
                      [&](index slot) { compute_slot<1>({&one}, slot); });
    }
    // The sum of two, in the slots that either reaches.
    void compute(const Factor& one, const Factor& other) const {
        there_or_back(groups_.back, 0, C::slots, [&](index slot) {
            if (one.reaches(slot) && other.reaches(slot)) compute_slot<2>({&one, &other}, slot);
            else compute_slot<1>({one.reaches(slot) ? &one : &other}, slot);
        });
    }

  private:
    static constexpr index panel = panel_width<T>;

    // Some units of a slot.
    struct Place {
        index slot, unit, count;
        index group, at;  // in a row of the group's gates
    };

    template <int N> void compute_slot(const Factor* const (&factors)[N], index slot) const {
        there_or_back(groups_.back, groups_.first, groups_.last, [&](index g) {
            there_or_back(groups_.back, 0, sizes_.group_panels(g),
                          [&](index q) { compute_panel<N>(factors, g, q, slot); });
        });
    }

    template <int N>
    void compute_panel(const Factor* const (&factors)[N], index g, index q, index slot) const {
        constexpr index lanes = Simd<T>::lanes;
        for (index part = 0; part < panel; part += lanes) {
            const index unit = (g * Sizes<C, T>::group + q) * panel + part;
            const Place place{slot, unit, max(0, min(lanes, sizes_.hidden - unit)), g,
                              q * Sizes<C, T>::unit_gates + slot * panel + part};
            index row = 0;
            for (; row_by_row_ && row < rows_; ++row) compute_rows<1>(factors, place, row);
            for (; row + inner_rows <= rows_; row += inner_rows)
                compute_rows<inner_rows>(factors, place, row);
            switch (rows_ - row) {
                case 1: compute_rows<1>(factors, place, row); break;
                case 2: compute_rows<2>(factors, place, row); break;
                case 3: compute_rows<3>(factors, place, row); break;
                default: break;
            }
        }
    }

    template <index Rows, int N>
    void compute_rows(const Factor* const (&factors)[N], const Place& place, index row) const {
        using Matrix = typename M::Matrix;
        Inner<Matrix, Rows> inner[N];
        for (int n = 0; n < N; ++n) {
            inner[n].w = factors[n]->weights.row(sizes_, place.unit, place.slot);
            inner[n].depth = factors[n]->weights.depth;
            for (index i = 0; i < Rows; ++i) inner[n].a[i] = factors[n]->operand(row + i);
        }
        Vec<T> sum[Rows] = {};
        if (place.count) multiply(inner, place.count, sum);
        const T* const bias =
            bias_ ? bias_ + place.group * Sizes<C, T>::group * Sizes<C, T>::unit_gates : nullptr;
        for (index i = 0; i < Rows; ++i) {
            T* const out = gates_(place.group, row + i) + place.at;
            store(out, sum[i] + load(bias ? bias + place.at : out));
        }
    }

    template <class P, index Rows, int N>
    void multiply(const Inner<P, Rows> (&factors)[N], index count, Vec<T>* sum) const {
        if constexpr (Rows == 1)
            if (row_by_row_) {
                sum[0] = inner_products_of_one<T, P>(factors, count);
                return;
            }
        inner_products<T, P>(factors, count, sum);
    }

    const Sizes<C, T>& sizes_;
    const bool row_by_row_;  // of a batch of one row each step
    const GroupRange groups_;
    const Gates gates_;
    const index rows_;
    const T* const bias_;
};

}  // namespace penstock::PENSTOCK_ISA
