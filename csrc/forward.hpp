// The time loop, forward, once for every cell.
//
// Threads own rows of the batch or units of the layer for the whole sequence (see Share). Where a step has
// few rows the input product is hoisted out of the recurrence, in chunks of steps that stay in cache. Only
// running rows are touched (see Layout): a ragged batch costs what its steps cost.
#pragma once

#include "direct.hpp"
#include "forward_plan.hpp"

namespace penstock::PENSTOCK_ISA {

// One thread's share of a block of rows, over all steps.
template <class C, class T, class M> class ForwardPass {
  public:
    ForwardPass(const ForwardPlan<C, T, M>& plan, const Team& team, const Share& share)
        : plan_(plan),
          p_(plan.p),
          sizes_(plan.sizes),
          begin_(share.rows.begin),
          end_(share.rows.end),
          units_(share.units),
          first_group_(units_.begin(sizes_.groups())),
          last_group_(units_.end(sizes_.groups())),
          own_gates_(plan.gates +
                     (units_.threads > 1 ? 0 : begin_ + team.thread * chunk_rows<M>)*sizes_.gates),
          rounded_x_(plan.rounded_x + team.thread * plan.rounded_rows() * kept_depth<M>(plan.sizes.input)),
          rounded_h_(plan.rounded_h + team.thread * plan.rounded_rows() * kept_depth<M>(plan.sizes.output)),
          x_rows_(plan.x_rows + team.thread * plan.scratch),
          h_rows_(plan.h_rows + team.thread * plan.scratch),
          old_c_rows_(plan.old_c_rows + team.thread * plan.scratch),
          reset_rows_(plan.reset_rows + team.thread * plan.scratch),
          c_rows_(plan.c_rows + team.thread * plan.scratch),
          new_h_rows_(plan.new_h_rows + team.thread * plan.scratch),
          new_c_rows_(plan.new_c_rows + team.thread * plan.scratch),
          out_rows_(plan.out_rows + team.thread * plan.scratch) {}

    void run() {
        never_running();
        const Layout& layout = p_.layout;
        for (index s = 0; s < layout.steps;) {
            index pairs = 0, last = s;
            do {
                pairs += collect(step_of(layout, p_.reverse, last++), pairs);
            } while (last < layout.steps && !plan_.together && pairs + (end_ - begin_) <= chunk_rows<M>);
            const bool hoisted = last - s > 1;
            if (hoisted) input_products(s, last, pairs);
            for (index pair = 0; s < last; ++s)
                pair += compute(step_of(layout, p_.reverse, s), pair, hoisted);
        }
    }

  private:
    using S = Sizes<C, T>;
    using Matrix = typename M::Matrix;
    using Kept = typename M::Kept;
    static constexpr index panel = panel_width<T>;

    index running(index rows) const { return max(min(rows, end_) - begin_, 0); }

    // Rows of no length: the final state is the initial one, and every output is zero.
    void never_running() {
        if (units_.thread != 0) return;
        const index running_once = p_.layout.steps ? p_.layout.active[0] : 0;
        for (index b = max(begin_, running_once); b < end_; ++b) {
            const index row = p_.layout.state_position[b];
            copy(p_.h_n + row * sizes_.output, plan_.h0.at(b), sizes_.output);
            if constexpr (C::has_cell_state)
                copy(p_.c_n + row * sizes_.hidden, plan_.c0.at(b), sizes_.hidden);
        }
    }

    // The inputs of a step's rows, from place `pair` of the chunk on.
    index collect(const Step& step, index pair) {
        const index rows = running(step.rows);
        for (index i = 0; i < rows; ++i) x_rows_[pair + i] = p_.x.at(p_.layout, step.time, begin_ + i);
        round(x_rows_ + pair, rows, sizes_.input, rounded_x_ + pair * kept_depth<M>(sizes_.input));
        return rows;
    }

    Gates<C, T> gates_of(const Step& step, index pair) const {
        if (p_.reserve) return {plan_.gates + p_.layout.offset[step.time] * sizes_.gates, step.rows, 0};
        return {own_gates_ + pair * sizes_.gates, running(step.rows), begin_};
    }

    void input_products(index s, index last, index pairs) {
        for (index g = first_group_; g < last_group_; ++g) {
            index pair = 0;
            for (index t = s; t < last; ++t) {
                const Step step = step_of(p_.layout, p_.reverse, t);
                const Gates<C, T> gates = gates_of(step, pair);
                for (index i = 0; i < running(step.rows); ++i)
                    c_rows_[pair++] = gates.group(sizes_, g, begin_ + i);
            }
            input_product(g, 0, pairs, g == first_group_, packed_group(plan_.input, g + 1));
        }
    }

    // Where a group's weights lie packed; nullptr for none, and where nothing is packed.
    const Kept* packed_group(const GateWeights<C, T, M>& weights, index g) const {
        const bool known = !plan_.direct && g >= first_group_ && g < last_group_;
        return known ? weights.group(sizes_, g) : nullptr;
    }

    // `first`: of the groups that read these inputs. `after`: the weights that will come next.
    void input_product(index g, index pair, index rows, bool first, const Kept* after) {
        product(g, plan_.input, inputs_from(pair), rows, plan_.bias + g * S::group * S::unit_gates, first,
                after);
        for (int slot = 0; slot < C::slots; ++slot) {
            if (C::input_gate[slot] >= 0) continue;  // slots it does not reach start from their bias
            for (index q = 0; q < sizes_.group_panels(g); ++q) {
                const index at = q * S::unit_gates + slot * panel;
                const T* bias = plan_.bias + g * S::group * S::unit_gates + at;
                for (index i = 0; i < rows; ++i) copy(c_rows_[i] + at, bias, panel);
            }
        }
    }

    Operands<T> inputs_from(index pair) const {
        return {x_rows_ + pair, rounded_x_ + pair * kept_depth<M>(sizes_.input)};
    }

    void round([[maybe_unused]] const T* const* rows, [[maybe_unused]] index count,
               [[maybe_unused]] index depth, [[maybe_unused]] bf16* to) const {
        if constexpr (rounds<M>)
            for (index i = 0; plan_.rounds_rows() && i < count; ++i)
                plan_.infinity.met(round_row<M::parts>(to + i * kept_depth<M>(depth), rows[i], depth));
    }

    // With the weights from a panel on.
    Factors factors(index q, const GateWeights<C, T, M>& weights, const Operands<T>& a) const {
        if constexpr (!rounds<M>) return {};
        else
            return {a.rounded, kept_depth<M>(weights.depth), padded_depth(weights.depth),
                    weights.at(sizes_, q)};
    }

    // Both products with one group of units, where they are computed at once.
    void both_products(index g, const Operands<T>& x, const Operands<T>& h, index rows) {
        [[maybe_unused]] const index width = sizes_.group_panels(g) * C::slots;
        if constexpr (rounds<M>)
            multiply<M::parts>({.factors = {factors(g * S::group, plan_.input, x),
                                            factors(g * S::group, plan_.recurrent, h)},
                                .width = width,
                                .c = c_rows_,
                                .columns = width * panel,
                                .bias = plan_.bias + g * S::group * S::unit_gates},
                               rows);
    }

    // With the weights as they are. gates(group, row): where the results go.
    template <class Gates> DirectProducts<C, T, M, Gates> direct(GroupRange groups, index rows, const T* bias,
                                                                 Gates gates) const {
        return {sizes_, p_.layout.batch, groups, gates, rows, bias};
    }

    bool are_far(const GateWeights<C, T, M>& weights) const {
        return sizes_.units * weights.span.count * kept_depth<M>(weights.depth) * index(sizeof(Kept)) >
               plan_.near_weights;
    }

    // c_rows (+)= A * W^T, for one group of units; from a bias, or on top of what is there.
    void product(index g, const GateWeights<C, T, M>& weights, const Operands<T>& a, index rows,
                 const T* bias, bool a_is_far, const Kept* after) {
        if (!weights.packed)
            return direct({g, g + 1}, rows, bias ? plan_.bias : nullptr,
                          [&](index, index i) { return c_rows_[i]; })
                .compute({weights, a});
        const index first = g * S::group, end = first + sizes_.group_panels(g), at_once = weights.at_once;
        for (index q = first; q < end; q += at_once) {
            const index offset = (q - first) * S::unit_gates + weights.span.begin * panel;
            const Kept* next = q + at_once < end ? weights.at(sizes_, q + at_once) : after;
            product_of(weights, q, min(at_once, end - q), a, rows, offset, bias, a_is_far && q == first,
                       next);
        }
    }
    // The same of some panels, `offset` from the rows of their group.
    void product_of(const GateWeights<C, T, M>& weights, index first, index panels, const Operands<T>& a,
                    index rows, index offset, const T* bias, [[maybe_unused]] bool a_is_far,
                    const Kept* after) {
        const index width = panels * weights.span.count;
        if constexpr (rounds<M>)
            multiply<M::parts>({.factors = {factors(first, weights, a)},
                                .width = width,
                                .c = c_rows_,
                                .c_offset = offset,
                                .run = weights.span.count,
                                .gap = C::slots - weights.span.count,
                                .columns = width * panel,
                                .bias = bias ? bias + offset : nullptr,
                                .accumulate = bias == nullptr,
                                .b_after = are_far(weights) ? after : nullptr},
                               rows);
        else
            multiply<T>({.a = a.rows,
                         .depth = {weights.depth},
                         .b = weights.at(sizes_, first),
                         .b_after = after,
                         .width = width,
                         .c = c_rows_,
                         .c_offset = offset,
                         .columns = width * panel,
                         .bias = bias ? bias + offset : nullptr,
                         .accumulate = bias == nullptr,
                         .a_is_far = a_is_far},
                        rows);
    }

    // The products of a step with one group of units.
    void packed_products(const Gates<C, T>& gates, const GroupRange& groups, index g, index pair, index rows,
                         bool hoisted) {
        const index next = groups.back ? g - 1 : g + 1;
        const bool first = g == (groups.back ? groups.last - 1 : groups.first);
        const Operands<T> h{h_rows_, rounded_h_};
        collect_gates(gates, g, rows);
        if (!hoisted && plan_.together) return both_products(g, inputs_from(pair), h, rows);
        if (!hoisted) input_product(g, pair, rows, first, packed_group(plan_.recurrent, g));
        product(g, plan_.recurrent, h, rows, nullptr, false,
                packed_group(hoisted ? plan_.recurrent : plan_.input, next));
    }

    // Those with all groups, the weights as they are.
    void direct_products(const Gates<C, T>& gates, const GroupRange& groups, index pair, index rows,
                         bool hoisted) {
        const auto row = [&](index g, index i) { return gates.group(sizes_, g, begin_ + i); };
        const Direct<C, T, M> x{plan_.input, inputs_from(pair)}, h{plan_.recurrent, {h_rows_, rounded_h_}};
        if (plan_.together) return direct(groups, rows, plan_.bias, row).compute(x, h);
        for (index g = groups.first; !hoisted && g < groups.last; ++g) {
            collect_gates(gates, g, rows);
            input_product(g, pair, rows, g == groups.first, nullptr);
        }
        direct(groups, rows, nullptr, row).compute(h);
    }

    void collect_gates(const Gates<C, T>& gates, index g, index rows) {
        for (index i = 0; i < rows; ++i) c_rows_[i] = gates.group(sizes_, g, begin_ + i);
    }

    index compute(const Step& step, index pair, bool hoisted) {
        const index rows = running(step.rows);
        const Gates<C, T> gates = gates_of(step, pair);
        find_rows(step, rows);
        round(h_rows_, rows, sizes_.output, rounded_h_);
        // There and back again, from step to step and from call to call: the weights read last are still in
        // the cache.
        const GroupRange groups{first_group_, last_group_, (step.time + plan_.turn) % 2 != 0};
        const auto cell = [](const auto& blocks) { C::template forward<T>(blocks); };
        // With few rows the products of all groups come first: more blocks for the cell to work on in turns.
        const bool few = plan_.direct || rows < tile_rows;
        if (plan_.direct) direct_products(gates, groups, pair, rows, hoisted);
        else
            there_or_back(groups.back, groups.first, groups.last, [&](index g) {
                packed_products(gates, groups, g, pair, rows, hoisted);
                if (!few) pointwise(gates, g, g + 1, rows, cell);
            });
        if (few) pointwise(gates, first_group_, last_group_, rows, cell);
        if constexpr (C::reset_before) {
            units_.wait();  // for r * h of all units
            candidates(gates, rows);
        }
        if (p_.weights.projection) project(step, rows);
        write_outputs(step, rows);
        units_.wait();
        return rows;
    }

    // The second half of a step, whose product is with r * h.
    void candidates(const Gates<C, T>& gates, index rows) {
        round(reset_rows_, rows, sizes_.hidden, rounded_h_);
        for (index g = first_group_; g < last_group_; ++g) {
            collect_gates(gates, g, rows);
            product(g, plan_.candidate, {reset_rows_, rounded_h_}, rows, nullptr, false,
                    packed_group(plan_.candidate, g + 1));
            pointwise(gates, g, g + 1, rows,
                      [](const auto& blocks) { C::template forward_candidate<T>(blocks); });
        }
    }

    void find_rows(const Step& step, index rows) {
        for (index i = 0; i < rows; ++i) {
            const index b = begin_ + i;
            h_rows_[i] = plan_.h_before(step, b);
            new_h_rows_[i] = p_.weights.projection ? plan_.full + b * sizes_.units : plan_.h_at(step.time, b);
            if constexpr (C::has_cell_state) {
                old_c_rows_[i] = plan_.c_before(step, b);
                new_c_rows_[i] = plan_.c_at(step.time, b);
            }
            if constexpr (C::reset_before) reset_rows_[i] = plan_.reset + b * sizes_.units;
        }
    }

    // The blocks of groups [first, last).
    template <class Cell>
    PENSTOCK_INLINE void pointwise(const Gates<C, T>& gates, index first, index last, index rows, Cell cell) {
        const Walk<C, T> walk(rows, first * S::group, min(last * S::group, sizes_.panels));
        in_turns(walk, [&](auto place) { return block(gates, place.row, place.panel); }, cell);
    }

    PENSTOCK_INLINE Forward<T> block(const Gates<C, T>& gates, index i, index q) const {
        const index at = q * panel, b = begin_ + i;
        Forward<T> s{};
        s.gates = gates.panel(sizes_, q, b);
        s.h_prev = h_rows_[i] + at;
        s.h = new_h_rows_[i] + at;
        if constexpr (C::has_cell_state) {
            s.c = new_c_rows_[i] + at;
            s.c_prev = old_c_rows_[i] + at;
        }
        if constexpr (C::reset_before) s.reset_hidden = plan_.reset + b * sizes_.units + at;
        for (index k = 0; k < 3; ++k) s.peephole[k] = plan_.peephole + k * sizes_.units + at;
        return s;
    }

    void project(const Step& step, index rows) {
        const Columns<T> columns = sizes_.states();
        for (index i = 0; i < rows; ++i) out_rows_[i] = plan_.h_at(step.time, begin_ + i);
        for (index group = 0; group < columns.groups(); ++group) {
            const index width = columns.width(group);
            multiply<T>({.a = new_h_rows_,
                         .depth = {sizes_.hidden},
                         .b = plan_.projection + columns.begin(group) * sizes_.hidden,
                         .width = width,
                         .c = out_rows_,
                         .c_offset = columns.begin(group),
                         .columns = width * panel},
                        rows);
        }
    }

    // The units of this thread, out of `count`.
    struct Range { index begin, count; };
    Range own(index count) const {
        if (units_.threads == 1) return {0, count};
        const index begin = first_group_ * S::group * panel;
        return {begin, min(count, last_group_ * S::group * panel) - begin};
    }

    void write_outputs(const Step& step, index rows) {
        const Range h_units = own(sizes_.output), c_units = own(sizes_.hidden);
        for (index i = 0; i < rows; ++i) {
            const index b = begin_ + i;
            const T* h = plan_.h_at(step.time, b) + h_units.begin;
            const T* c = plan_.c_at(step.time, b) + c_units.begin;
            if (!plan_.h_in_y) copy(p_.y.at(p_.layout, step.time, b) + h_units.begin, h, h_units.count);
            if (C::has_cell_state && p_.cell_states.data)
                copy(p_.cell_states.at(p_.layout, step.time, b) + c_units.begin, c, c_units.count);
            if (b < step.next_rows) continue;
            const index row = p_.layout.state_position[b];
            copy(p_.h_n + row * sizes_.output + h_units.begin, h, h_units.count);
            if constexpr (C::has_cell_state)
                copy(p_.c_n + row * sizes_.hidden + c_units.begin, c, c_units.count);
        }
        if (!p_.layout.zero_padding) return;
        for (index b = max(begin_, step.rows); b < end_; ++b) {
            zero(p_.y.at(p_.layout, step.time, b) + h_units.begin, h_units.count);
            if (p_.cell_states.data)
                zero(p_.cell_states.at(p_.layout, step.time, b) + c_units.begin, c_units.count);
        }
    }

    const ForwardPlan<C, T, M>& plan_;
    const ForwardArguments<T, Matrix>& p_;
    const S& sizes_;
    const index begin_, end_;
    const Team units_;
    const index first_group_, last_group_;
    T* const own_gates_;
    bf16 *const rounded_x_, *const rounded_h_;
    const T **x_rows_, **h_rows_, **old_c_rows_, **reset_rows_;
    T **c_rows_, **new_h_rows_, **new_c_rows_, **out_rows_;
};

template <class C, class T, class M> void forward_share(ForwardPlan<C, T, M>& plan, const Team& team) {
    [[maybe_unused]] const TilesFor<M> tiles;
    plan.pack(team);
    team.wait();
    const Layout& layout = plan.p.layout;
    const Share share =
        share_of<C, T>(team, plan.sizes, layout, {0, layout.batch}, plan.p.weights.projection);
    const index blocks = blocks_of(share.rows.count(), block_rows);
    for (index block = 0; block < blocks; ++block)
        ForwardPass<C, T, M>(plan, team, {block_of(share.rows, block, blocks), share.units}).run();
}

}  // namespace penstock::PENSTOCK_ISA
