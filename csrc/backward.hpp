// The time loop, backward, once for every cell: gradients of the gates, the states and the input, in chunks
// of steps whose gate gradients are then summed into those of the weights (gradients.hpp).
//
// Rows or units are shared out as in the forward pass. A chunk ends where its steps say, never where threads
// do, so that the sums over its pairs are the same for any number of threads.
#pragma once

#include "pack.hpp"

namespace penstock::PENSTOCK_ISA {

// Where one row of a step keeps its values.
template <class T> struct BackwardRow {
    index b, pair;
    T* d_gates;
    const T *h_prev, *c_prev, *c, *d_reset;
    T *d_h, *d_c, *full, *reset;
};

// The gate gradients of a span, rounded, one row a pair: operands of the products with its weights.
template <class M> struct RoundedGates {
    Span span;
    index values;  // of a row, without the zeros after them
    bf16* data = nullptr;

    index depth() const { return padded_depth(values); }
    // Not a multiple of the page size: rows would compete for the same places of the cache.
    index stride() const { return depth() * M::parts + depth_unit; }
    bf16* row(index pair) const { return data + pair * stride(); }

    // c (+)= the gates of some pairs * W, for a team's groups of columns.
    template <class T> void multiply(index pair, index rows, const bf16* w, Columns<T> columns,
                                     const Team& team, T* const* c, bool accumulate) const {
        each_slice(depth(), [&](index k, index count) {
            for (index group = team.begin(columns.groups()); group < team.end(columns.groups()); ++group) {
                const index width = columns.width(group), begin = columns.begin(group);
                const Factors all{row(pair), stride(), depth(), w + begin * kept_depth<M>(values)};
                PENSTOCK_ISA::multiply<M::parts>({.factors = {all.template slice<M::parts>(k, count, width)},
                                                  .width = width,
                                                  .c = c,
                                                  .c_offset = begin,
                                                  .columns = columns.valid(group),
                                                  .accumulate = accumulate || k,
                                                  .sums_apart = accumulate},
                                                 rows);
            }
        });
    }
};

template <class C, class T, class M> struct BackwardPlan {
    using S = Sizes<C, T>;
    using Matrix = typename M::Matrix;
    // Whose weights' gradients are summed together: more of them read the operands less often.
    static constexpr index panels_at_once = rounds<M> && by_tiles ? 256 / S::unit_gates : 1;
    const BackwardArguments<T, Matrix>& p;
    S sizes;
    Infinity infinity;
    bool direct_recurrent;  // few rows: products with the weights as they are
    bool rounded;           // products of numbers rounded to bf16
    bool direct_input;
    Columns<T> inputs, states, hidden;  // of the products
    Packed<T> input, recurrent;         // weights packed for C = A * W
    T *candidate, *projection, *peephole;
    States<T> h0, c0;
    const T *gates, *c, *h;  // the reserve
    T *d_h, *d_c;            // one row a batch row: gradient flowing back through time
    T *d_full, *d_reset;     // gradients of h before the projection, of r * h: one row a batch row
    T* own_d_x;              // of every pair, where d_x is added to
    // Where the weights' gradients are summed: the caller's, or, where one sum would be so long that its
    // rounding errors tell, sums of some chunks each.
    Weights<T> sums;
    bool folds;
    // Of the pairs of a chunk:
    index most_pairs, capacity;    // how many fit the cache, how many there can be
    T* d_gates;                    // panel by panel, pair by pair inside a panel
    T *full, *d_projected;         // for a projection: h before it, gradient after it
    T* reset;                      // r * h_prev
    const T **x_rows, **h_rows;    // what the weights were multiplied with
    Packed<T> x_packed, h_packed;  // the same, packed for the products
    T* full_packed;
    RoundedGates<M> rounded_input, rounded_recurrent;  // one and the same where the spans are
    bf16* rounded_columns;                             // for each thread the gates of some panels, transposed
    const T **gate_rows, **c_prev_rows, **c_rows, **projected_rows;
    T** d_x_rows;
    T **d_h_rows, **d_full_rows, **d_reset_rows;  // one a batch row
    BackwardRow<T>* rows;                         // for each thread, those of a step
    const T** a_rows;                             // for each thread, a panel's gates
    T** out_rows;

    BackwardPlan(Arena& arena, const BackwardArguments<T, Matrix>& p_)
        : p(p_),
          sizes{p_.input, p_.hidden, p_.output},
          direct_recurrent(is_direct(p_.output)),
          rounded(rounds<M> && !direct_recurrent),
          direct_input(!rounded && is_direct(p_.input)),
          inputs{p_.input},
          states{p_.output, narrow() ? index(1) : max_width},
          hidden{p_.hidden},
          h0(arena, p_.h0, sizes.output, sizes.outputs, p_.layout),
          c0(arena, p_.c0, sizes.hidden, sizes.cell_states, p_.layout),
          sums(p_.d_weights) {
        const index batch = p.layout.batch, pairs = p.layout.rows;
        const bool projected = p.weights.projection != nullptr;
        input = take_packed(arena, p.d_x.data && !direct_input ? depth_of_b(C::input) * inputs.padded() : 0);
        recurrent =
            take_packed(arena, direct_recurrent || !flows() ? 0 : depth_of_b(C::recurrent) * sizes.outputs);
        candidate = arena.take<T>(C::reset_before ? sizes.units * sizes.units : 0);
        projection = arena.take<T>(projected ? sizes.output * sizes.units : 0);
        peephole = arena.take<T>(p.weights.peephole ? 3 * sizes.units : 0);
        gates = p.reserve;
        c = gates + pairs * sizes.gates;
        h = C::gate_is_state ? gates : c + pairs * sizes.cell_states;
        d_h = arena.take<T>(batch * sizes.outputs);
        d_c = arena.take<T>(batch * sizes.cell_states);
        d_full = arena.take<T>(projected ? batch * sizes.units : 0);
        d_reset = arena.take<T>(C::reset_before ? batch * sizes.units : 0);
        own_d_x = arena.take<T>(p.d_x.data && p.add_to_d_x ? pairs * sizes.input : 0);
        const index values = sizes.gates + sizes.input + sizes.outputs;  // of a pair: gradients and operands
        most_pairs = max(block_rows, min(gradient_chunk / values, 2048));
        capacity = min(most_pairs, pairs);
        folds = pairs > 2 * folded_chunks * capacity;
        if (folds) take_sums(arena);
        d_gates = arena.take<T>(capacity * sizes.gates);
        full = arena.take<T>(projected ? capacity * sizes.units : 0);
        d_projected = arena.take<T>(projected ? capacity * sizes.outputs : 0);
        reset = arena.take<T>(C::reset_before ? capacity * sizes.units : 0);
        x_packed = take_packed(arena, p.d_weights.ih ? depth_of_pairs() * inputs.padded() : 0);
        h_packed = take_packed(arena, p.d_weights.hh ? depth_of_pairs() * sizes.outputs : 0);
        rounded_input = take_rounded(arena, C::input);
        rounded_recurrent = one_span<C> ? rounded_input : take_rounded(arena, C::recurrent);
        rounded_columns =
            arena.take<bf16>(rounded ? p.threads * panels_at_once * S::unit_gates * kept(capacity) : 0);
        x_rows = arena.take<const T*>(capacity);
        h_rows = arena.take<const T*>(capacity);
        full_packed = arena.take<T>(projected || C::reset_before ? capacity * sizes.units : 0);
        gate_rows = arena.take<const T*>(capacity);
        c_prev_rows = arena.take<const T*>(p.d_weights.peephole ? capacity : 0);
        c_rows = arena.take<const T*>(p.d_weights.peephole ? capacity : 0);
        projected_rows = arena.take<const T*>(projected ? capacity : 0);
        d_x_rows = arena.take<T*>(p.d_x.data ? capacity : 0);
        d_h_rows = arena.take<T*>(batch);
        d_full_rows = arena.take<T*>(projected ? batch : 0);
        d_reset_rows = arena.take<T*>(C::reset_before ? batch : 0);
        rows = arena.take<BackwardRow<T>>(p.threads * batch);
        a_rows = arena.take<const T*>(p.threads * S::unit_gates);
        out_rows = arena.take<T*>(p.threads * panels_at_once * S::unit_gates);
        if (!arena.fits()) return;
        for (index k = 0; k < capacity; ++k) gate_rows[k] = gate_row(k);
        for (index b = 0; b < batch; ++b) {
            d_h_rows[b] = d_h + b * sizes.outputs;
            if (projected) d_full_rows[b] = d_full + b * sizes.units;
            if (C::reset_before) d_reset_rows[b] = d_reset + b * sizes.units;
        }
    }

    // Calls f(sum, gradient, count) for each of the weights that have a gradient.
    template <class F> void each_gradient(F f) {
        const index rows = C::gates * sizes.hidden;
        const Weights<T>& d = p.d_weights;
        if (d.ih) f(sums.ih, d.ih, rows * sizes.input);
        if (d.hh) f(sums.hh, d.hh, rows * sizes.output);
        if (d.bias_ih) f(sums.bias_ih, d.bias_ih, rows);
        if (d.bias_hh) f(sums.bias_hh, d.bias_hh, rows);
        if (d.projection) f(sums.projection, d.projection, sizes.output * sizes.hidden);
        if (d.peephole) f(sums.peephole, d.peephole, 3 * sizes.hidden);
    }
    void take_sums(Arena& arena) {
        each_gradient([&](T*& sum, T*, index count) { sum = arena.take<T>(count); });
    }
    // The sums of some chunks go into the gradients.
    void fold(bool first, const Team& team) {
        each_gradient([&](T* sum, T* gradient, index count) {
            for (index j = team.begin(count); j < team.end(count); ++j)
                gradient[j] = first ? sum[j] : gradient[j] + sum[j];
        });
    }

    // Whether any step hands a gradient on.
    bool flows() const { return p.d_h0 || p.layout.steps > 1; }
    // Narrow groups of columns where threads share them out and there are few.
    bool narrow() const {
        return shares_units<C, T>(sizes, p.layout, p.weights.projection, p.threads) &&
               p.output < 2 * max_width * panel_width<T> * p.threads;
    }
    // Whether the rows are few, and products can read a matrix of so many columns in whole vectors.
    bool is_direct(index columns) const {
        return p.layout.rows <= direct_rows && !C::reset_before && p.hidden % S::panel == 0 &&
               columns % S::panel == 0;
    }
    // Rows of B where A is the gates of a span.
    index depth_of_b(Span span) const { return kept(sizes.units * span.count); }
    // Rows of B where it is what the weights were multiplied with in a chunk.
    index depth_of_pairs() const { return kept(capacity); }
    index kept(index depth) const { return rounded ? kept_depth<M>(depth) : depth; }
    Packed<T> take_packed(Arena& arena, index count) const {
        return {arena.take<char>(count * (rounded ? sizeof(bf16) : sizeof(T)))};
    }
    RoundedGates<M> take_rounded(Arena& arena, Span span) const {
        RoundedGates<M> gates{span, sizes.units * span.count};
        gates.data = arena.take<bf16>(rounded ? rounded_rows() * gates.stride() : 0);
        return gates;
    }
    index rounded_rows() const { return capacity + 2 * tile_edge; }
    // From one panel of a pair's gate gradients to the next.
    index panel_stride() const { return capacity * S::unit_gates; }
    T* gate_row(index pair) const { return d_gates + pair * S::unit_gates; }
    Depth depth_of(Span span) const { return {span.count * S::panel, sizes.panels, panel_stride()}; }

    void pack(const Team& team) {
        const Weights<const T, const Matrix>& w = p.weights;
        if (rounded) {
            zero_ends(rounded_input, team);
            if (!one_span<C>) zero_ends(rounded_recurrent, team);
        }
        if (p.d_x.data && !direct_input) pack_gates(input, w.ih, inputs, C::input, C::input_gate, team);
        if (flows() && !direct_recurrent)
            pack_gates(recurrent, w.hh, states, C::recurrent, C::recurrent_gate, team);
        if constexpr (C::reset_before)
            pack_gates_transposed<C>(candidate, w.hh, hidden, C::candidate, C::recurrent_gate, sizes, team);
        if (w.projection) pack_matrix(projection, w.projection, sizes.output, hidden, team);
        if (w.peephole) pack_peephole(peephole, w.peephole, sizes, team);
    }

    // What no gate will fill.
    void zero_ends(const RoundedGates<M>& gates, const Team& team) const {
        if constexpr (rounds<M>)
            for (index k = team.begin(rounded_rows()); k < team.end(rounded_rows()); ++k)
                for (index part = 0; part < M::parts; ++part)
                    zero(gates.row(k) + place<M::parts>(gates.values, part), gates.depth() - gates.values);
    }

    void pack_gates(Packed<T> packed, const Matrix* w, Columns<T> columns, Span span, const int* gate,
                    const Team& team) const {
        if (!rounded) return pack_gates_transposed<C>(packed.exact(), w, columns, span, gate, sizes, team);
        if constexpr (rounds<M>)
            pack_gates_rounded<M, C>(packed.rounded(), w, columns, span, gate, sizes, team, infinity);
    }

    // out_rows (+)= d_gates * W for a thread's groups of columns, W as the caller keeps it: slot by slot.
    void direct_product(const Matrix* w, Span span, const int* gate, const Columns<T>& columns,
                        const Team& team, const T* const* a_rows, T* const* out_rows, index rows,
                        bool accumulate) const {
        for (index group = team.begin(columns.groups()); group < team.end(columns.groups()); ++group)
            direct_product_of(w, span, gate, columns, group, a_rows, out_rows, rows, accumulate);
    }
    void direct_product_of(const Matrix* w, Span span, const int* gate, const Columns<T>& columns,
                           index group, const T* const* a_rows, T* const* out_rows, index rows,
                           bool accumulate) const {
        for (index slot = span.begin; slot < span.begin + span.count; ++slot)
            multiply<T, Matrix>({.a = a_rows,
                                 .a_offset = slot * S::panel,
                                 .depth = {S::panel, sizes.panels, panel_stride()},
                                 .b = w + gate[slot] * sizes.hidden * columns.columns + columns.begin(group),
                                 .width = columns.width(group),
                                 .b_stride = columns.columns,
                                 .c = out_rows,
                                 .c_offset = columns.begin(group),
                                 .columns = columns.valid(group),
                                 .accumulate = accumulate || slot != span.begin},
                                rows);
    }

    const T* h_before(const Step& step, index row) const {
        return row < step.previous_rows ? h + (p.layout.offset[step.previous] + row) * sizes.outputs
                                        : h0.at(row);
    }
    const T* c_before(const Step& step, index row) const {
        return row < step.previous_rows ? c + (p.layout.offset[step.previous] + row) * sizes.units
                                        : c0.at(row);
    }
    T* d_x_at(const Step& step, index row) const {
        const index pair = p.layout.offset[step.time] + row;
        return p.add_to_d_x ? own_d_x + pair * sizes.input : p.d_x.at(p.layout, step.time, row);
    }
};

// One thread's share of the steps of a block of rows.
template <class C, class T, class M> class BackwardPass {
  public:
    BackwardPass(const BackwardPlan<C, T, M>& plan, const Team& team, Rows block)
        : BackwardPass(plan, team, block,
                       share_of<C, T>(team, plan.sizes, plan.p.layout, block, plan.p.weights.projection)) {}

    void start() {
        for (index b = begin_; b < end_; ++b) load_final_gradient(b);
        const index running_once = p_.layout.steps ? p_.layout.active[0] : 0;
        for (index b = max(begin_, running_once); b < end_; ++b) write_initial_gradient(b);
        units_.wait();
    }

    // One step, the pairs of whose block come from place `first` of the chunk on.
    void compute(const Step& step, index first) {
        const index rows = Rows{begin_, end_}.running(step.rows), pair = first + before_;
        for (index i = 0; i < rows; ++i) {
            add_output_gradients(step, begin_ + i);
            remember(step, begin_ + i, pair + i);
        }
        if (p_.weights.projection) unproject(pair, rows);
        pointwise(step, pair, rows, [](const auto& blocks) { C::template backward<T>(blocks); });
        if constexpr (C::reset_before) {
            gates_product(plan_.candidate, C::candidate, plan_.hidden, pair, plan_.d_reset_rows, rows, false);
            pointwise(step, pair, rows, [](const auto& blocks) { C::template backward_reset<T>(blocks); });
        }
        round_gates(pair, rows);
        units_.wait();
        recurrent_product(pair, flowing(step));
        units_.wait();
        for (index b = max(begin_, step.previous_rows); b < begin_ + rows; ++b) write_initial_gradient(b);
        zero_padding(step);
    }

  private:
    using S = Sizes<C, T>;
    static constexpr index panel = panel_width<T>;

    BackwardPass(const BackwardPlan<C, T, M>& plan, const Team& team, Rows block, const Share& share)
        : plan_(plan),
          p_(plan.p),
          sizes_(plan.sizes),
          begin_(share.rows.begin),
          end_(share.rows.end),
          before_(begin_ - block.begin),
          units_(share.units),
          first_unit_(units_.begin(sizes_.panels) * panel),
          last_unit_(units_.end(sizes_.panels) * panel),
          rows_(plan.rows + team.thread * plan.p.layout.batch) {}

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
    void remember(const Step& step, index b, index pair) {
        if (units_.thread != 0) return;
        plan_.x_rows[pair] = p_.x.at(p_.layout, step.time, b);
        plan_.h_rows[pair] = plan_.h_before(step, b);
        if (p_.d_x.data) plan_.d_x_rows[pair] = plan_.d_x_at(step, b);
        if (p_.d_weights.peephole) {
            plan_.c_prev_rows[pair] = plan_.c_before(step, b);
            plan_.c_rows[pair] = plan_.c + (p_.layout.offset[step.time] + b) * sizes_.units;
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
    PENSTOCK_INLINE void pointwise(const Step& step, index first_pair, index rows, Cell cell) {
        for (index i = 0; i < rows; ++i) rows_[i] = row_of(step, begin_ + i, first_pair + i);
        const Gates<C, T, const T> gates{plan_.gates + p_.layout.offset[step.time] * sizes_.gates, step.rows,
                                         0};
        ahead_ = p_.reverse ? step.rows : -step.rows;
        const Walk<C, T> walk(rows, first(sizes_.units) / panel, last(sizes_.units) / panel);
        in_turns(walk, [&](auto place) { return block(rows_[place.row], gates, place.panel); }, cell);
    }

    BackwardRow<T> row_of(const Step& step, index b, index pair) const {
        const bool projected = p_.weights.projection;
        BackwardRow<T> row{};
        row.b = b, row.pair = pair;
        row.d_gates = plan_.gate_row(pair);
        row.h_prev = plan_.h_before(step, b);
        row.d_h = projected ? plan_.d_full + b * sizes_.units : plan_.d_h + b * sizes_.outputs;
        if constexpr (C::has_cell_state) {
            row.c_prev = plan_.c_before(step, b);
            row.c = plan_.c + (p_.layout.offset[step.time] + b) * sizes_.units;
            row.d_c = plan_.d_c + b * sizes_.units;
        }
        if (projected) row.full = plan_.full + pair * sizes_.units;
        if constexpr (C::reset_before) {
            row.reset = plan_.reset + pair * sizes_.units;
            row.d_reset = plan_.d_reset + b * sizes_.units;
        }
        return row;
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

    void round_gates([[maybe_unused]] index first_pair, [[maybe_unused]] index rows) {
        if (!plan_.rounded) return;
        if constexpr (rounds<M>)
            for (index pair = first_pair; pair < first_pair + rows; ++pair) {
                round_gates_of(plan_.rounded_input, pair);
                if (!one_span<C>) round_gates_of(plan_.rounded_recurrent, pair);
            }
    }
    void round_gates_of(const RoundedGates<M>& gates, index pair) {
        const index count = gates.span.count * panel;
        for (index q = first_unit_ / panel; q < last_unit_ / panel; ++q)
            plan_.infinity.met(round_values<M::parts>(
                gates.row(pair), q * count,
                plan_.gate_row(pair) + q * plan_.panel_stride() + gates.span.begin * panel, count));
    }

    // d_h (+)= d_gates * W_hh
    void recurrent_product(index pair, index rows) {
        if (plan_.rounded) return rounded_product(pair, rows);
        if (!plan_.direct_recurrent)
            return gates_product(plan_.recurrent.exact(), C::recurrent, plan_.states, pair, plan_.d_h_rows,
                                 rows, C::carries_hidden);
        plan_.direct_product(p_.weights.hh, C::recurrent, C::recurrent_gate, plan_.states, units_,
                             plan_.gate_rows + pair, plan_.d_h_rows + begin_, rows, C::carries_hidden);
    }
    void rounded_product([[maybe_unused]] index pair, [[maybe_unused]] index rows) {
        [[maybe_unused]] const Columns<T>& columns = plan_.states;
        if constexpr (rounds<M>)
            plan_.rounded_recurrent.multiply(pair, rows, plan_.recurrent.rounded(),
                                             {columns.padded(), columns.group_panels}, units_,
                                             plan_.d_h_rows + begin_, C::carries_hidden);
    }

    // out_rows (+)= gates[span] * W, for consecutive pairs.
    void gates_product(const T* weights, Span span, Columns<T> columns, index pair, T* const* out_rows,
                       index rows, bool accumulate) {
        product(weights, plan_.gate_rows + pair, span.begin * panel, plan_.depth_of(span), columns, out_rows,
                rows, accumulate);
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

    const BackwardPlan<C, T, M>& plan_;
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
