// The time loop, backward, once for every cell: gradients of the gates, the states and the input, in chunks
// of steps whose gate gradients are then summed into those of the weights (gradients.hpp).
//
// Rows or units are shared out as in the forward pass. A chunk ends where its steps say, never where threads
// do, so that the sums over its pairs are the same for any number of threads.
#pragma once

#include "backward_plan.hpp"

namespace penstock::PENSTOCK_ISA {

// The rows whose weights' gradients are summed together: all of a block, or one after the other of two groups
// with about as many pairs each. Which they are follows from the shapes alone.
template <class Plan> struct Groups {
    Rows rows[Plan::most_groups];
    index count;

    Groups(const Plan& plan, Rows block) : rows{block, {block.end, block.end}}, count(plan.groups) {
        if (count > 1) rows[0].end = rows[1].begin = first_row(plan.p.layout, block, 1, 2);
    }
};

// The places of a step's pairs: in the order in which a pass comes by them, and in the memory of each group.
template <class Plan> struct Places {
    index next;
    index of_group[Plan::most_groups];
};

// One thread's share of the steps of a block of rows.
template <class C, class T, class M> class BackwardPass {
  public:
    using Plan = BackwardPlan<C, T, M>;
    // worker: this thread among all those of the plan.
    BackwardPass(const Plan& plan, const Team& team, int worker, Rows block, const Groups<Plan>& groups)
        : BackwardPass(plan, worker, block, groups,
                       share_of<C, T>(team, plan.sizes, plan.p.layout, block, plan.p.weights.projection)) {}

    void start() {
        for (index b = begin_; b < end_; ++b) load_final_gradient(b);
        const index running_once = p_.layout.steps ? p_.layout.active[0] : 0;
        for (index b = max(begin_, running_once); b < end_; ++b) write_initial_gradient(b);
        units_.wait();
    }

    // One step, the first of whose pairs have these places.
    void compute(const Step& step, const Places<Plan>& places) {
        const index rows = Rows{begin_, end_}.running(step.rows), pair = places.next + before_;
        for (index i = 0; i < rows; ++i) {
            add_output_gradients(step, begin_ + i);
            remember(step, begin_ + i, pair + i, place_of(begin_ + i, places));
        }
        if (p_.weights.projection) unproject(pair, rows);
        pointwise(step, places, rows, [](const auto& blocks) { C::template backward<T>(blocks); });
        if constexpr (C::reset_before) {
            round_gates(pair, rows, C::candidate);
            units_.wait();  // for the candidates of all units
            candidate_product(pair, rows);
            units_.wait();  // columns are shared out otherwise than units
            pointwise(step, places, rows, [](const auto& blocks) { C::template backward_reset<T>(blocks); });
            round_gates(pair, rows, C::recurrent);
        } else {
            round_gates(pair, rows, {0, C::slots});
        }
        units_.wait();
        recurrent_product(pair, flowing(step));
        units_.wait();
        for (index b = max(begin_, step.previous_rows); b < begin_ + rows; ++b) write_initial_gradient(b);
        zero_padding(step);
    }

  private:
    using S = Sizes<C, T>;
    static constexpr index panel = panel_width<T>;

    BackwardPass(const Plan& plan, int worker, Rows block, const Groups<Plan>& groups, const Share& share)
        : plan_(plan),
          groups_(groups),
          p_(plan.p),
          sizes_(plan.sizes),
          begin_(share.rows.begin),
          end_(share.rows.end),
          before_(begin_ - block.begin),
          units_(share.units),
          first_unit_(units_.begin(sizes_.panels) * panel),
          last_unit_(units_.end(sizes_.panels) * panel),
          rows_(plan.rows + worker * plan.p.layout.batch) {}

    index place_of(index b, const Places<Plan>& places) const {
        const index group = groups_.count > 1 && b >= groups_.rows[1].begin;
        return places.of_group[group] + b - groups_.rows[group].begin;
    }

    // This thread's part of rows of `count` values: all, or those of its units.
    index first(index) const { return units_.threads == 1 ? 0 : first_unit_; }
    index last(index count) const { return units_.threads == 1 ? count : min(count, last_unit_); }

    // Rows from which a gradient flows on: into the step before, or into a given initial state.
    index flowing(const Step& step) const {
        return Rows{begin_, end_}.running(p_.d_h0 ? step.rows : min(step.rows, step.previous_rows));
    }

    void load_final_gradient(index b) {
        const index row = p_.layout.state_position[b];
        load_state(plan_.d_h + b * sizes_.outputs, p_.d_h_n ? p_.d_h_n + row * sizes_.output : nullptr,
                   sizes_.output, sizes_.outputs);
        if (C::has_cell_state)
            load_state(plan_.d_c + b * sizes_.units, p_.d_c_n ? p_.d_c_n + row * sizes_.hidden : nullptr,
                       sizes_.hidden, sizes_.units);
    }
    void load_state(T* to, const T* from, index count, index padded) {
        const index begin = first(padded), valid = from ? max(0, last(count) - begin) : 0;
        copy_padded(to + begin, from + begin, valid, last(padded) - begin);
    }

    void write_initial_gradient(index b) {
        const index row = p_.layout.state_position[b];
        if (p_.d_h0)
            write_state(p_.d_h0 + row * sizes_.output, plan_.d_h + b * sizes_.outputs, sizes_.output);
        if (p_.d_c0) write_state(p_.d_c0 + row * sizes_.hidden, plan_.d_c + b * sizes_.units, sizes_.hidden);
    }
    void write_state(T* to, const T* from, index count) {
        const index begin = first(count);
        copy(to + begin, from + begin, last(count) - begin);
    }

    void add_output_gradients(const Step& step, index b) {
        if (p_.d_y.data) {
            add(plan_.d_h + b * sizes_.outputs, p_.d_y.at(p_.layout, step.time, b), sizes_.output);
            if (b < step.previous_rows) fetch(p_.d_y.at(p_.layout, step.previous, b), sizes_.output);
        }
        if (p_.d_cell_states.data)
            add(plan_.d_c + b * sizes_.units, p_.d_cell_states.at(p_.layout, step.time, b), sizes_.hidden);
    }
    void fetch(const T* from, index count) const {
        for (index j = first(count); j < last(count); j += panel) __builtin_prefetch(from + j, 0, 2);
    }
    void add(T* to, const T* from, index count) {
        for (index j = first(count); j < last(count); ++j) to[j] += from[j];
    }

    // What the sums over the chunk will need of this pair.
    void remember(const Step& step, index b, index pair, index place) {
        if (units_.thread != 0) return;
        plan_.gate_rows[pair] = plan_.gate_row(place);
        if (p_.d_x.data) plan_.d_x_rows[pair] = plan_.d_x_at(step, b);
        plan_.x_rows[place] = p_.x.at(p_.layout, step.time, b);
        plan_.h_rows[place] = plan_.h_before(step, b);
        if (p_.d_weights.peephole) {
            plan_.c_prev_rows[place] = plan_.c_before(step, b);
            plan_.c_rows[place] = plan_.c + (p_.layout.offset[step.time] + b) * sizes_.units;
        }
    }
    void unproject(index pair, index rows) {
        for (index i = 0; i < rows; ++i) {
            T* kept = plan_.d_projected + (pair + i) * sizes_.outputs;
            copy(kept, plan_.d_h + (begin_ + i) * sizes_.outputs, sizes_.outputs);
            plan_.projected_rows[pair + i] = kept;
        }
        product(plan_.projection, plan_.projected_rows + pair, 0, {sizes_.output}, plan_.hidden,
                plan_.d_full_rows, rows, false);
    }

    template <class Cell>
    PENSTOCK_INLINE void pointwise(const Step& step, const Places<Plan>& places, index rows, Cell cell) {
        for (index i = 0; i < rows; ++i) find(rows_[i], step, begin_ + i, place_of(begin_ + i, places));
        const Gates<C, T, const T> gates{plan_.gates + p_.layout.offset[step.time] * sizes_.gates, step.rows,
                                         0};
        ahead_ = p_.reverse ? step.rows : -step.rows;
        const Walk<C, T> walk(rows, first(sizes_.units) / panel, last(sizes_.units) / panel);
        in_turns(walk, [&](auto place) { return block(rows_[place.row], gates, place.panel); }, cell);
    }

    // In place: a copy of the whole would wait for the stores of its parts.
    PENSTOCK_INLINE void find(BackwardRow<T>& row, const Step& step, index b, index place) const {
        const bool projected = p_.weights.projection;
        row.b = b;
        row.d_gates = plan_.gate_row(place);
        row.h_prev = plan_.h_before(step, b);
        row.d_h = projected ? plan_.d_full + b * sizes_.units : plan_.d_h + b * sizes_.outputs;
        row.full = projected ? plan_.full + place * sizes_.units : nullptr;
        if constexpr (C::has_cell_state) {
            row.c_prev = plan_.c_before(step, b);
            row.c = plan_.c + (p_.layout.offset[step.time] + b) * sizes_.units;
            row.d_c = plan_.d_c + b * sizes_.units;
        }
        if constexpr (C::reset_before) {
            row.reset = plan_.reset + place * sizes_.units;
            row.d_reset = plan_.d_reset + b * sizes_.units;
        }
    }

    PENSTOCK_INLINE Backward<T> block(const BackwardRow<T>& row, const Gates<C, T, const T>& gates,
                                      index q) const {
        const index at = q * panel;
        Backward<T> s{};
        s.gates = gates.panel(sizes_, q, row.b);
        s.d_gates = row.d_gates + q * plan_.panel_stride();
        for (index slot = 0; slot < C::slots; ++slot)
            __builtin_prefetch(s.gates + ahead_ * sizes_.gates + slot * panel, 0, 2);
        if (C::has_cell_state) __builtin_prefetch(row.c_prev + at + ahead_ * sizes_.units, 0, 2);
        s.h_prev = row.h_prev + at;
        s.d_h = row.d_h + at;
        if constexpr (C::has_cell_state) {
            s.c_prev = row.c_prev + at;
            s.c = row.c + at;
            s.d_c = row.d_c + at;
        }
        if (row.full) s.h = row.full + at;
        if constexpr (C::reset_before) {
            s.reset_hidden = row.reset + at;
            s.d_reset_hidden = row.d_reset + at;
        }
        for (index k = 0; k < 3; ++k) s.peephole[k] = plan_.peephole + k * sizes_.units + at;
        return s;
    }

    void round_gates([[maybe_unused]] index first_pair, [[maybe_unused]] index rows,
                     [[maybe_unused]] Span span) {
        if constexpr (rounds<M>)
            for (index i = 0; plan_.rounded && i < rows; ++i)
                round_row_of_gates(plan_.rounded_gates.row(first_pair + i), rows_[i].d_gates, span);
    }
    void round_row_of_gates(bf16* row, const T* d_gates, Span span) {
        const RoundedOrder<C, T>& order = plan_.rounded_gates.order;
        constexpr index together = order.by_panel ? C::slots : 1;
        const index first = first_unit_ / panel, last = last_unit_ / panel;
        for (index slot = span.begin; slot < span.begin + span.count; slot += together) {
            const index begin = order.place(0, slot) / panel;
            plan_.infinity.met(
                round_panels<M::parts>(row, begin + first * together, begin + last * together, [&](index n) {
                    const index q = (n - begin) / together, beside = (n - begin) % together;
                    return d_gates + q * plan_.panel_stride() + (slot + beside) * panel;
                }));
        }
    }

    // d(r * h) = d_n * W_hn
    void candidate_product([[maybe_unused]] index pair, [[maybe_unused]] index rows) {
        if constexpr (C::reset_before)
            gates_product(plan_.candidate, C::candidate, pair, plan_.d_reset_rows, rows, false);
    }

    // d_h (+)= d_gates * W_hh
    void recurrent_product(index pair, index rows) {
        gates_product(plan_.recurrent, C::recurrent, pair, plan_.d_h_rows, rows, C::carries_hidden);
    }

    // out_rows (+)= gates[span] * W_hh, for consecutive pairs.
    void gates_product(Packed<T> weights, Span span, index pair, T* const* out_rows, index rows,
                       bool accumulate) {
        const Columns<T>& columns = plan_.states;
        if (plan_.direct_recurrent)
            return plan_.direct_product(p_.weights.hh, span, C::recurrent_gate, columns, units_,
                                        plan_.gate_rows + pair, out_rows + begin_, rows, accumulate);
        if (!plan_.rounded_steps)
            return product(weights.exact(), plan_.gate_rows + pair, span.begin * panel, plan_.depth_of(span),
                           columns, out_rows, rows, accumulate);
        if constexpr (rounds<M>)
            plan_.rounded_gates.multiply(span, pair, rows, weights.rounded(),
                                         {columns.padded(), columns.group_panels}, units_, out_rows + begin_,
                                         accumulate);
    }

    void product(const T* weights, const T* const* a_rows, index a_offset, Depth depth, Columns<T> columns,
                 T* const* out_rows, index rows, bool accumulate) {
        for (index group = units_.begin(columns.groups()); group < units_.end(columns.groups()); ++group) {
            const index width = columns.width(group);
            multiply<T>({.a = a_rows,
                         .a_offset = a_offset,
                         .depth = depth,
                         .b = weights + columns.begin(group) * depth.total(),
                         .width = width,
                         .c = out_rows + begin_,
                         .c_offset = columns.begin(group),
                         .columns = width * panel,
                         .accumulate = accumulate},
                        rows);
        }
    }

    void zero_padding(const Step& step) {
        if (!p_.layout.zero_padding || !p_.d_x.data || p_.add_to_d_x || units_.thread != 0) return;
        for (index b = max(begin_, step.rows); b < end_; ++b)
            zero(p_.d_x.at(p_.layout, step.time, b), sizes_.input);
    }

    const Plan& plan_;
    const Groups<Plan> groups_;
    const BackwardArguments<T, typename M::Matrix>& p_;
    const S& sizes_;
    const index begin_, end_;
    const index before_;  // rows of the block before them
    const Team units_;
    const index first_unit_, last_unit_;
    BackwardRow<T>* const rows_;
    index ahead_ = 0;
};

}  // namespace penstock::PENSTOCK_ISA
