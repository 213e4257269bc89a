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

// The products of one group of units, into the rows of its gates: from a bias, or on top of what is there.
template <class C, class T, class M> class DirectProducts {
  public:
    using Factor = Direct<C, T, M>;

    // batch: of the call, whatever the rows of this thread: the order of the sums depends on it.
    DirectProducts(const Sizes<C, T>& sizes, index batch, index group, T* const* gates, index rows,
                   const T* bias)
        : sizes_(sizes),
          row_by_row_(wide_vectors<T> && batch == 1),
          group_(group),
          gates_(gates),
          rows_(rows),
          bias_(bias) {}

    void compute(const Factor& one) const {
        for (index q = 0; q < sizes_.group_panels(group_); ++q)
            for (index slot = one.weights.span.begin; one.reaches(slot); ++slot)
                compute_slot<1>({&one}, q, slot);
    }
    // The sum of two, in the slots that either reaches.
    void compute(const Factor& one, const Factor& other) const {
        for (index q = 0; q < sizes_.group_panels(group_); ++q)
            for (index slot = 0; slot < C::slots; ++slot)
                if (one.reaches(slot) && other.reaches(slot)) compute_slot<2>({&one, &other}, q, slot);
                else compute_slot<1>({one.reaches(slot) ? &one : &other}, q, slot);
    }

  private:
    static constexpr index panel = panel_width<T>;

    // Some units of a slot.
    struct Place {
        index slot, unit, count;
        index at;  // in a row of the group's gates
    };

    template <int N> void compute_slot(const Factor* const (&factors)[N], index q, index slot) const {
        constexpr index lanes = Simd<T>::lanes;
        for (index part = 0; part < panel; part += lanes) {
            const index unit = (group_ * Sizes<C, T>::group + q) * panel + part;
            const Place place{slot, unit, max(0, min(lanes, sizes_.hidden - unit)),
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
        for (index i = 0; i < Rows; ++i) {
            T* const out = gates_[row + i] + place.at;
            store(out, sum[i] + load(bias_ ? bias_ + place.at : out));
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
    const index group_;
    T* const* const gates_;
    const index rows_;
    const T* const bias_;
};

}  // namespace penstock::PENSTOCK_ISA
