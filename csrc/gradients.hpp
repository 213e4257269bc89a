// What a chunk of pairs adds to the gradients of the input and of the weights: products over all its pairs.
//
// The pairs are shared out for the input, panels of units for the weights.
#pragma once

#include "backward.hpp"

namespace penstock::PENSTOCK_ISA {

template <class C, class T> class ChunkGradients {
  public:
    ChunkGradients(const BackwardPlan<C, T>& plan, const Team& team, index pairs, bool first)
        : plan_(plan),
          p_(plan.p),
          sizes_(plan.sizes),
          team_(team),
          pairs_(pairs),
          first_(first),
          a_rows_(plan.a_rows + team.thread * S::unit_gates),
          out_rows_(plan.out_rows + team.thread * S::unit_gates) {}

    void run() {
        if (p_.d_x.data) input_gradient();
        for (index q = team_.begin(sizes_.panels); q < team_.end(sizes_.panels); ++q) weight_gradients(q);
        if (p_.d_weights.projection) projection();
    }

  private:
    using S = Sizes<C, T>;
    static constexpr index panel = panel_width<T>;

    void input_gradient() {
        const Depth depth = plan_.depth_of(C::input);
        const index begin = team_.begin(pairs_);
        for (index group = 0; group < plan_.inputs.groups(); ++group)
            multiply<T>({.a = plan_.gate_rows + begin,
                         .a_offset = C::input.begin * panel,
                         .depth = depth,
                         .b = plan_.input + plan_.inputs.begin(group) * depth.total(),
                         .width = plan_.inputs.width(group),
                         .c = plan_.d_x_rows + begin,
                         .c_offset = plan_.inputs.begin(group),
                         .columns = plan_.inputs.valid(group)},
                        team_.end(pairs_) - begin);
    }

    void weight_gradients(index q) {
        const Weights<T>& d = p_.d_weights;
        for (index slot = 0; slot < C::slots; ++slot) {
            bias(q, slot, C::input_gate, d.bias_ih);
            bias(q, slot, C::recurrent_gate, d.bias_hh);
            if (d.peephole) peephole(q, slot);
        }
        matrix(q, C::input, C::input_gate, plan_.x_packed, plan_.inputs, d.ih);
        matrix(q, C::recurrent, C::recurrent_gate, plan_.h_packed, sizes_.states(), d.hh);
        if constexpr (C::reset_before)
            matrix(q, C::candidate, C::recurrent_gate, plan_.full_packed, plan_.hidden, d.hh);
    }

    index units_of(index q) const { return min(panel, sizes_.hidden - q * panel); }
    const T* gates_of(index q) const { return plan_.d_gates + q * plan_.panel_stride(); }

    // Rows of `out`, those of a panel of units in the slots of `span`: (+)= d_gates^T * B.
    void matrix(index q, Span span, const int* gate, const T* packed, Columns<T> columns, T* out) {
        if (!out) return;
        index rows = 0;
        for (index slot = span.begin; slot < span.begin + span.count; ++slot)
            for (index lane = 0; lane < units_of(q); ++lane, ++rows) {
                a_rows_[rows] = gates_of(q) + slot * panel + lane;
                out_rows_[rows] = out + (gate[slot] * sizes_.hidden + q * panel + lane) * columns.columns;
            }
        sum(rows, {pairs_, 1, 0, S::unit_gates}, packed, columns);
    }

    // (R, H): d_projected^T * full, by panels of R.
    void projection() {
        const index panels = divide_up(sizes_.output, panel);
        for (index q = team_.begin(panels); q < team_.end(panels); ++q) {
            const index rows = min(panel, sizes_.output - q * panel);
            for (index j = 0; j < rows; ++j) {
                a_rows_[j] = plan_.d_projected + q * panel + j;
                out_rows_[j] = p_.d_weights.projection + (q * panel + j) * sizes_.hidden;
            }
            sum(rows, {pairs_, 1, 0, sizes_.outputs}, plan_.full_packed, plan_.hidden);
        }
    }

    void sum(index rows, Depth depth, const T* packed, Columns<T> columns) {
        for (index group = 0; group < columns.groups(); ++group)
            multiply<T>({.a = a_rows_,
                         .depth = depth,
                         .b = packed + columns.begin(group) * plan_.capacity,
                         .width = columns.width(group),
                         .c = out_rows_,
                         .c_offset = columns.begin(group),
                         .columns = columns.valid(group),
                         .accumulate = !first_},
                        rows);
    }

    void bias(index q, index slot, const int* gate, T* out) {
        if (!out || gate[slot] < 0) return;
        const T* d_gates = gates_of(q) + slot * panel;
        sum_pairs(out + gate[slot] * sizes_.hidden + q * panel, units_of(q),
                  [&](index pair, index part) { return load(d_gates + pair * S::unit_gates + part); });
    }

    // Input and forget gate saw the previous cell state, the output gate the new one.
    void peephole(index q, index slot) {
        static constexpr int order[] = {0, 1, -1, 2};
        const int which = order[slot];
        if (which < 0) return;
        const T* const* seen = which == 2 ? plan_.c_rows : plan_.c_prev_rows;
        const T* d_gates = gates_of(q) + slot * panel;
        sum_pairs(p_.d_weights.peephole + which * sizes_.hidden + q * panel, units_of(q),
                  [&](index pair, index part) {
                      return load(d_gates + pair * S::unit_gates + part) *
                             load(seen[pair] + q * panel + part);
                  });
    }

    // Short sums of short sums: one long one would lose what the products keep.
    template <class Value> PENSTOCK_INLINE void sum_pairs(T* out, index units, Value value) const {
        constexpr index lanes = Simd<T>::lanes, few = 32;
        for (index part = 0; part < panel; part += lanes) {
            Vec<T> total{};
            for (index from = 0; from < pairs_; from += few) {
                Vec<T> some{};
                for (index pair = from; pair < min(from + few, pairs_); ++pair) some += value(pair, part);
                total += some;
            }
            T edge[lanes];
            store(edge, total);
            for (index j = 0; j < min(lanes, units - part); ++j)
                out[part + j] = first_ ? edge[j] : out[part + j] + edge[j];
        }
    }

    const BackwardPlan<C, T>& plan_;
    const BackwardArguments<T>& p_;
    const S& sizes_;
    const Team team_;
    const index pairs_;
    const bool first_;
    const T** a_rows_;
    T** out_rows_;
};

template <class C, class T> void backward_share(BackwardPlan<C, T>& plan, const Team& team) {
    const Layout& layout = plan.p.layout;
    plan.pack(team);
    BackwardPass<C, T> pass(plan, team);
    pass.start();
    team.wait();
    index s = layout.steps - 1;
    for (bool first = true; first || s >= 0; first = false) {
        index pairs = 0;
        while (s >= 0) {
            const Step step = step_of(layout, plan.p.reverse, s);
            if (pairs && pairs + step.rows > plan.capacity) break;
            pass.compute(step, pairs);
            pairs += step.rows;
            --s;
        }
        team.wait();
        ChunkGradients<C, T>(plan, team, pairs, first).run();
        team.wait();
    }
}

// The gradient of the input from this direction, on top of what is there.
template <class C, class T> void add_input_gradient(const BackwardPlan<C, T>& plan, const Team& team) {
    const Layout& layout = plan.p.layout;
    if (!plan.p.d_x.data || !plan.p.add_to_d_x) return;
    for (index t = team.begin(layout.steps); t < team.end(layout.steps); ++t)
        for (index b = 0; b < layout.active[t]; ++b) {
            T* to = plan.p.d_x.at(layout, t, b);
            const T* from = plan.own_d_x + (layout.offset[t] + b) * plan.sizes.input;
            for (index j = 0; j < plan.sizes.input; ++j) to[j] += from[j];
        }
}

}  // namespace penstock::PENSTOCK_ISA
