// What a chunk of pairs adds to the gradients of the input and of the weights: products over all its pairs.
//
// The pairs are shared out for the input, panels of units for the weights.
#pragma once

#include "backward.hpp"

namespace penstock::PENSTOCK_ISA {

// The gradients of the inputs of `pairs` pairs from one on, in the order in which they were come by.
template <class C, class T, class M>
void input_gradient(const BackwardPlan<C, T, M>& plan, const Team& team, index first, index pairs) {
    if (!plan.p.d_x.data) return;
    const index begin = first + team.begin(pairs), rows = first + team.end(pairs) - begin;
    if (plan.direct_input)
        return plan.direct_product(plan.p.weights.ih, C::input, C::input_gate, plan.inputs, Team{},
                                   plan.gate_rows + begin, plan.d_x_rows + begin, rows, false);
    if constexpr (rounds<M>)
        if (plan.rounded)
            return plan.rounded_gates.multiply(C::input, begin, rows, plan.input.rounded(), plan.inputs,
                                               Team{}, plan.d_x_rows + begin, false);
    for (index group = 0; group < plan.inputs.groups(); ++group) {
        const index columns = plan.inputs.valid(group), offset = plan.inputs.begin(group);
        multiply<T>({.a = plan.gate_rows + begin,
                     .a_offset = C::input.begin * panel_width<T>,
                     .depth = plan.depth_of(C::input),
                     .b = plan.input.exact() + offset * plan.depth_of(C::input).total(),
                     .width = plan.inputs.width(group),
                     .c = plan.d_x_rows + begin,
                     .c_offset = offset,
                     .columns = columns,
                     .c_is_far = true},
                    rows);
    }
}

// The gradients of the weights.
template <class C, class T, class M> class ChunkGradients {
  public:
    // Of `pairs` pairs of a group, from one place on. worker: this thread among all those of the plan;
    // `first`: of the group's sums.
    ChunkGradients(const BackwardPlan<C, T, M>& plan, const Team& team, int worker, index group, index begin,
                   index pairs, bool first)
        : plan_(plan),
          p_(plan.p),
          sizes_(plan.sizes),
          team_(team),
          worker_(worker),
          group_(group),
          begin_(begin),
          pairs_(pairs),
          first_(first),
          a_rows_(plan.a_rows + worker * S::unit_gates),
          out_rows_(plan.out_rows + worker * plan.panels_at_once * S::unit_gates) {}

    void run() {
        const index end = team_.end(sizes_.panels), some = plan_.panels_at_once;
        for (index q = team_.begin(sizes_.panels); q < end; q += some)
            weight_gradients(q, min(q + some, end));
        if (p_.d_weights.projection) projection();
    }

  private:
    using S = Sizes<C, T>;
    static constexpr index panel = panel_width<T>;

    // Of panels [begin, end).
    void weight_gradients(index begin, index end) {
        const Weights<T>& d = plan_.sums[group_];
        for (index q = begin; d.peephole && q < end; ++q) peepholes(q);
        if (plan_.rounded) {
            round_columns(begin, end);
            rounded_matrix(begin, end, C::input, C::input_gate, plan_.x_packed[group_].rounded(),
                           plan_.inputs, d.ih);
            rounded_matrix(begin, end, C::recurrent, C::recurrent_gate, plan_.h_packed[group_].rounded(),
                           sizes_.states(), d.hh);
            if constexpr (C::reset_before)
                rounded_matrix(begin, end, C::candidate, C::recurrent_gate,
                               plan_.reset_packed[group_].rounded(), plan_.hidden, d.hh);
            return;
        }
        for (index q = begin; q < end; ++q) {
            biases(q);
            matrix(q, C::input, C::input_gate, plan_.x_packed[group_].exact(), plan_.inputs, d.ih);
            matrix(q, C::recurrent, C::recurrent_gate, plan_.h_packed[group_].exact(), sizes_.states(), d.hh);
            if constexpr (C::reset_before)
                matrix(q, C::candidate, C::recurrent_gate, plan_.reset_packed[group_].exact(), plan_.hidden,
                       d.hh);
        }
    }

    index units_of(index q) const { return min(panel, sizes_.hidden - q * panel); }
    const T* gates_of(index q) const { return plan_.gate_row(begin_) + q * plan_.panel_stride(); }

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

    bf16* columns_of_thread() const {
        return plan_.rounded_columns +
               worker_ * plan_.panels_at_once * S::unit_gates * plan_.kept(plan_.group_capacity);
    }
    // Slot after slot, in each the panels one after the other: the slots of a span lie together. The biases'
    // gradients are summed as their gates come by.
    void round_columns([[maybe_unused]] index begin, [[maybe_unused]] index end) {
        if constexpr (rounds<M>) {
            static_assert(few_pairs == depth_unit);
            const index kept = kept_depth<M>(pairs_);
            bf16* to = columns_of_thread();
            for (index slot = 0; slot < C::slots; ++slot)
                for (index q = begin; q < end; ++q, to += panel * kept) {
                    Vec<T> total{};
                    for (index pair = 0; pair < pairs_; pair += depth_unit)
                        total += round_transposed<M::parts>(to + place<M::parts>(pair, 0), kept,
                                                            gates_of(q) + pair * S::unit_gates + slot * panel,
                                                            S::unit_gates, pairs_ - pair);
                    add_to_biases(q, slot, 0, total);
                }
        }
    }
    void rounded_matrix(index begin, index end, Span span, const int* gate,
                        [[maybe_unused]] const bf16* packed, Columns<T> columns, T* out) {
        if (!out) return;
        index rows = 0;
        for (index slot = span.begin; slot < span.begin + span.count; ++slot)
            for (index unit = begin * panel; unit < end * panel; ++unit)
                out_rows_[rows++] = unit < sizes_.hidden
                                        ? out + (gate[slot] * sizes_.hidden + unit) * columns.columns
                                        : nullptr;
        if constexpr (rounds<M>)
            for (index group = 0; group < columns.groups(); ++group)
                multiply<M::parts>(
                    {.factors = {{columns_of_thread() +
                                      span.begin * (end - begin) * panel * kept_depth<M>(pairs_),
                                  kept_depth<M>(pairs_), padded_depth(pairs_),
                                  packed + columns.begin(group) * plan_.kept(plan_.group_capacity)}},
                     .width = columns.width(group),
                     .c = out_rows_,
                     .c_offset = columns.begin(group),
                     .columns = columns.valid(group),
                     .accumulate = !first_,
                     .sums_apart = true,
                     .c_is_far = true},
                    rows);
    }

    // (R, H): d_projected^T * full, by panels of R.
    void projection() {
        const index panels = divide_up(sizes_.output, panel);
        for (index q = team_.begin(panels); q < team_.end(panels); ++q) {
            const index rows = min(panel, sizes_.output - q * panel);
            for (index j = 0; j < rows; ++j) {
                a_rows_[j] = plan_.d_projected + q * panel + j;
                out_rows_[j] = plan_.sums[group_].projection + (q * panel + j) * sizes_.hidden;
            }
            sum(rows, {pairs_, 1, 0, sizes_.outputs}, plan_.full_packed, plan_.hidden);
        }
    }

    void sum(index rows, Depth depth, const T* packed, Columns<T> columns) {
        for (index group = 0; group < columns.groups(); ++group)
            multiply<T>({.a = a_rows_,
                         .depth = depth,
                         .b = packed + columns.begin(group) * plan_.group_capacity,
                         .width = columns.width(group),
                         .c = out_rows_,
                         .c_offset = columns.begin(group),
                         .columns = columns.valid(group),
                         .accumulate = !first_,
                         .c_is_far = true},
                        rows);
    }

    void biases(index q) {
        const Weights<T>& d = plan_.sums[group_];
        if (!d.bias_ih && !d.bias_hh) return;
        for (index slot = 0; slot < C::slots; ++slot) {
            const T* d_gates = gates_of(q) + slot * panel;
            for (index part = 0; part < panel; part += lanes)
                add_to_biases(q, slot, part, sum_pairs([&](index pair) {
                                  return load(d_gates + pair * S::unit_gates + part);
                              }));
        }
    }
    // `part`: the first of the units of a panel that the sum is of.
    void add_to_biases(index q, index slot, index part, Vec<T> sum) {
        const Weights<T>& d = plan_.sums[group_];
        if (d.bias_ih && C::input_gate[slot] >= 0) add_to(d.bias_ih, C::input_gate[slot], q, part, sum);
        if (d.bias_hh && C::recurrent_gate[slot] >= 0)
            add_to(d.bias_hh, C::recurrent_gate[slot], q, part, sum);
    }

    // Input and forget gate saw the previous cell state, the output gate the new one.
    void peepholes(index q) {
        static constexpr index slots[] = {0, 1, 3};
        for (index which = 0; which < 3; ++which) {
            const T* const* seen = (which == 2 ? plan_.c_rows : plan_.c_prev_rows) + begin_;
            const T* d_gates = gates_of(q) + slots[which] * panel;
            for (index part = 0; part < panel; part += lanes)
                add_to(plan_.sums[group_].peephole, which, q, part, sum_pairs([&](index pair) {
                           return load(d_gates + pair * S::unit_gates + part) *
                                  load(seen[pair] + q * panel + part);
                       }));
        }
    }

    // Short sums of short sums: one long one would lose what the products keep.
    static constexpr index lanes = Simd<T>::lanes, few_pairs = 32;
    template <class Value> PENSTOCK_INLINE Vec<T> sum_pairs(Value value) const {
        Vec<T> total{};
        for (index from = 0; from < pairs_; from += few_pairs) {
            Vec<T> some{};
            for (index pair = from; pair < min(from + few_pairs, pairs_); ++pair) some += value(pair);
            total += some;
        }
        return total;
    }
    // A vector of H values for each gate.
    void add_to(T* vectors, index gate, index q, index part, Vec<T> sum) const {
        const index units = units_of(q) - part;
        if (units <= 0) return;
        T* out = vectors + gate * sizes_.hidden + q * panel + part;
        store_partial(out, first_ ? sum : load_partial(out, units) + sum, units);
    }

    const BackwardPlan<C, T, M>& plan_;
    const BackwardArguments<T, typename M::Matrix>& p_;
    const S& sizes_;
    const Team team_;
    const int worker_;
    const index group_, begin_, pairs_;
    const bool first_;
    const T** a_rows_;
    T** out_rows_;
};

// Rows of B, row(k) for each of `pairs` k, packed: each row read from end to end.
template <class T, class Row>
void pack_rows(T* packed, index capacity, Columns<T> shape, index pairs, const Team& team, Row row) {
    for (index k = team.begin(pairs); k < team.end(pairs); ++k)
        for (index group = 0; group < shape.groups(); ++group) {
            const index width = shape.width(group) * panel_width<T>, begin = shape.begin(group);
            copy_padded(packed + begin * capacity + k * width, row(k) + begin, shape.valid(group), width);
        }
}
#if defined(__AVX512BF16__)
template <class M, class Row> void round_rows(bf16* packed, index capacity, Columns<float> shape, index pairs,
                                              const Team& team, const Infinity& infinity, Row row) {
    constexpr index ahead = 8;  // rows: the processor fetches few of them itself
    const auto from = [&](index k, index begin) { return k < pairs ? row(k) + begin : nullptr; };
    const index twos = padded_depth(pairs) / 2;
    for (index k = 2 * team.begin(twos); k < 2 * team.end(twos); k += 2)
        for (index group = 0; group < shape.groups(); ++group) {
            const index width = shape.width(group) * panel_width<float>, begin = shape.begin(group);
            bf16* to = packed + begin * kept_depth<M>(capacity) + pair_place<M::parts>(k, width);
            for (index next = k + ahead; next < min(k + ahead + 2, pairs); ++next)
                for (index j = 0; j < shape.valid(group); j += panel_width<float>)
                    __builtin_prefetch(row(next) + begin + j);
            infinity.met(
                pack_pair<M::parts>(to, from(k, begin), from(k + 1, begin), shape.valid(group), width));
        }
}
#endif

// What the weights were multiplied with in a chunk, of a group's pairs from one place on.
template <class C, class T, class M>
void pack_operands(const BackwardPlan<C, T, M>& plan, index group, index begin, index pairs,
                   const Team& team) {
    const Weights<T>& d = plan.p.d_weights;
    const index capacity = plan.group_capacity, units = plan.sizes.units;
    const auto pack = [&](Packed<T> packed, Columns<T> columns, auto row) {
        if (!plan.rounded) return pack_rows(packed.exact(), capacity, columns, pairs, team, row);
        if constexpr (rounds<M>)
            round_rows<M>(packed.rounded(), capacity, columns, pairs, team, plan.infinity, row);
    };
    const auto at = [begin](const T* const* rows) { return [=](index k) { return rows[begin + k]; }; };
    if (d.ih) pack(plan.x_packed[group], plan.inputs, at(plan.x_rows));
    if (d.hh) pack(plan.h_packed[group], plan.sizes.states(), at(plan.h_rows));
    const auto of_units = [=](const T* rows) { return [=](index k) { return rows + (begin + k) * units; }; };
    if (C::reset_before && d.hh) pack(plan.reset_packed[group], plan.hidden, of_units(plan.reset));
    if (d.projection) pack_rows(plan.full_packed, capacity, plan.hidden, pairs, team, of_units(plan.full));
}

// The steps of a block of rows, chunk after chunk: all of it, or one group beside the other.
template <class C, class T, class M> class BackwardBlock {
  public:
    using Plan = BackwardPlan<C, T, M>;
    BackwardBlock(Plan& plan, const Team& team, Rows rows)
        : plan_(plan),
          layout_(plan.p.layout),
          team_(team),
          rows_(rows),
          groups_(plan, rows),
          apart_(groups_.count == 2 && team.threads % 2 == 0),
          part_(apart_ ? team.half() : team),
          first_group_(apart_ ? team.which_half() : 0),
          last_group_(apart_ ? first_group_ + 1 : groups_.count) {}

    // `chunk`: how many there have been. Afterwards, how many there are.
    void run(index& chunk, bool last_block) {
        BackwardPass<C, T, M> pass(plan_, part_, team_.thread, apart_ ? groups_.rows[first_group_] : rows_,
                                   groups_);
        pass.start();
        part_.wait();
        index s = layout_.steps - 1;
        do {
            const index end = end_of_chunk(s);
            Places<Plan> places = begin_;
            for (; s > end; --s) {
                const Step step = step_of(layout_, plan_.p.reverse, s);
                pass.compute(step, places);
                advance(places, step.rows);
            }
            part_.wait();
            const index place = plan_.folds ? chunk % folded_chunks : chunk;
            gradients(places, place == 0);
            const bool last = s < 0 && last_block;
            if (last ? plan_.folds || plan_.groups > 1 : plan_.folds && place == folded_chunks - 1)
                fold(chunk < folded_chunks);
            ++chunk;
        } while (s >= 0);
        if (apart_) team_.wait();  // before the places are given to other rows
    }

  private:
    // The step after which a chunk ends that begins with step s: told by the rows of all groups.
    index end_of_chunk(index s) const {
        index pairs = 0;
        for (; s >= 0; --s) {
            const index rows = rows_.running(step_of(layout_, plan_.p.reverse, s).rows);
            if (pairs && pairs + rows > plan_.capacity) break;
            pairs += rows;
        }
        return s;
    }

    void advance(Places<Plan>& places, index running) const {
        for (index group = first_group_; group < last_group_; ++group) {
            const index rows = groups_.rows[group].running(running);
            places.of_group[group] += rows;
            places.next += rows;
        }
    }

    // Of the pairs up to these places.
    void gradients(const Places<Plan>& end, bool first) {
        const auto pairs = [&](index group) { return end.of_group[group] - begin_.of_group[group]; };
        // The inputs' first: the gates' parts are still in the cache, and operands are packed when they are
        // wanted.
        input_gradient(plan_, part_, begin_.next, end.next - begin_.next);
        for (index group = first_group_; group < last_group_; ++group)
            pack_operands(plan_, group, begin_.of_group[group], pairs(group), part_);
        part_.wait();
        for (index group = first_group_; group < last_group_; ++group)
            ChunkGradients<C, T, M>(plan_, part_, team_.thread, group, begin_.of_group[group], pairs(group),
                                    first)
                .run();
        part_.wait();
    }

    void fold(bool first) {
        if (apart_) team_.wait();
        plan_.fold(first, team_);
        team_.wait();
    }

    Plan& plan_;
    const Layout& layout_;
    const Team team_;
    const Rows rows_;
    const Groups<Plan> groups_;
    const bool apart_;  // each half of the team one group
    const Team part_;
    const index first_group_, last_group_;
    const Places<Plan> begin_{first_group_ * plan_.group_capacity, {0, plan_.group_capacity}};
};

template <class C, class T, class M> void backward_share(BackwardPlan<C, T, M>& plan, const Team& team) {
    [[maybe_unused]] const TilesFor<M> tiles;
    plan.pack(team);
    const index blocks = blocks_of(plan.p.layout.batch, plan.most_pairs);
    index chunk = 0;
    for (index block = 0; block < blocks; ++block) {
        const Rows rows = block_of({0, plan.p.layout.batch}, block, blocks);
        team.wait();
        BackwardBlock<C, T, M>(plan, team, rows).run(chunk, block + 1 == blocks);
    }
}

// The gradient of the input from this direction, on top of what is there.
template <class C, class T, class M> void add_input_gradient(const BackwardPlan<C, T, M>& plan,
                                                             const Team& team) {
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
