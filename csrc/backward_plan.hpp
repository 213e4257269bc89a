// What a backward pass needs before it starts: which way its products go, weights packed for them, and where
// everything lies.
#pragma once

#include "pack.hpp"

namespace penstock::PENSTOCK_ISA {

// Where one row of a step keeps its values.
template <class T> struct BackwardRow {
    index b;
    T* d_gates;
    const T *h_prev, *c_prev, *c, *d_reset;
    T *d_h, *d_c, *full, *reset;
};

// The gate gradients, rounded, one row a pair: operands of the products with the weights.
template <class C, class T, class M> struct RoundedGates {
    RoundedOrder<C, T> order;
    bf16* data = nullptr;

    static constexpr Span all{0, C::slots};
    // Not a multiple of the page size: rows would compete for the same places of the cache.
    index stride() const { return order.depth(all) * M::parts + depth_unit; }
    bf16* row(index pair) const { return data + pair * stride(); }

    // What no gate will fill.
    void zero_ends(index pair) const {
        for (index n = 0; n < order.runs(all); ++n)
            for (index part = 0; part < M::parts; ++part)
                zero(row(pair) + place<M::parts>(n * order.padded_run() + order.run(), part),
                     order.padded_run() - order.run());
    }

    // c (+)= the gates of some pairs in the slots of a span * W, for a team's groups of columns.
    void multiply(Span span, index pair, index rows, const bf16* w, Columns<T> columns, const Team& team,
                  T* const* c, bool accumulate) const {
        const index depth = order.depth(span);
        const bf16* const a = row(pair) + order.begin(span) * M::parts;
        each_slice(depth, [&](index k, index count) {
            for (index group = team.begin(columns.groups()); group < team.end(columns.groups()); ++group) {
                const index width = columns.width(group), begin = columns.begin(group);
                const Factors whole{a, stride(), depth, w + begin * depth * M::parts};
                PENSTOCK_ISA::multiply<M::parts>(
                    {.factors = {whole.template slice<M::parts>(k, count, width)},
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
    bool rounded_steps;     // the recurrent ones of each step too
    bool direct_input;
    Columns<T> inputs, states, hidden;      // of the products
    Packed<T> input, recurrent, candidate;  // weights packed for C = A * W
    T *projection, *peephole;
    States<T> h0, c0;
    const T *gates, *c, *h;  // the reserve
    T *d_h, *d_c;            // one row a batch row: gradient flowing back through time
    T *d_full, *d_reset;     // gradients of h before the projection, of r * h: one row a batch row
    T* own_d_x;              // of every pair, where d_x is added to
    // Groups of rows whose weights' gradients are summed apart, so that two threads need nothing of each
    // other.
    static constexpr index most_groups = 2;
    index groups;
    // Where the weights' gradients of each group are summed: the first one's in the caller's, or, where one
    // sum would be so long that its rounding errors tell, sums of some chunks each.
    Weights<T> sums[most_groups];
    bool folds;
    // Of the pairs of a chunk, those of each group together (see Groups):
    index most_pairs, capacity;  // how many fit the cache, how many there can be
    index group_capacity;        // how many of one group
    T* d_gates;                  // panel by panel, pair by pair inside a panel
    T *full, *d_projected;       // for a projection: h before it, gradient after it
    T* reset;                    // r * h_prev
    const T **x_rows, **h_rows;  // what the weights were multiplied with
    Packed<T> x_packed[most_groups], h_packed[most_groups];  // the same, packed for the products
    Packed<T> reset_packed[most_groups];                     // and r * h_prev
    T* full_packed;                                          // and h before the projection
    RoundedGates<C, T, M> rounded_gates;
    bf16* rounded_columns;  // for each thread the gates of some panels, transposed
    const T **c_prev_rows, **c_rows, **projected_rows;
    // In the order in which threads come by them, as the rounded gates are:
    const T** gate_rows;
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
          rounded_steps(rounded && rounds_steps<M>(sizes, p_.layout)),
          direct_input(!rounded && is_direct(p_.input)),
          inputs{p_.input},
          states{p_.output, narrow() ? index(1) : max_width},
          hidden{p_.hidden},
          h0(arena, p_.h0, sizes.output, sizes.outputs, p_.layout),
          c0(arena, p_.c0, sizes.hidden, sizes.cell_states, p_.layout),
          groups(sums_groups() ? most_groups : 1),
          sums{p_.d_weights, p_.d_weights},
          rounded_gates{{sizes}} {
        const index batch = p.layout.batch, pairs = p.layout.rows;
        const bool projected = p.weights.projection != nullptr;
        input = take_gates(arena, C::input, p.d_x.data && !direct_input ? inputs.padded() : 0, rounded);
        recurrent =
            take_gates(arena, C::recurrent, direct_recurrent || !flows() ? 0 : sizes.outputs, rounded_steps);
        if constexpr (C::reset_before)
            candidate = take_gates(arena, C::candidate, direct_recurrent ? 0 : sizes.outputs, rounded_steps);
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
        group_capacity =
            groups > 1 && pairs == batch * p.layout.steps ? divide_up(9 * capacity, 16) : capacity;
        folds = pairs > 2 * folded_chunks * capacity;
        if (folds) take_sums(arena, 0);
        for (index group = 1; group < groups; ++group) take_sums(arena, group);
        d_gates = arena.take<T>(places() * sizes.gates);
        full = arena.take<T>(projected ? capacity * sizes.units : 0);
        d_projected = arena.take<T>(projected ? capacity * sizes.outputs : 0);
        reset = arena.take<T>(C::reset_before ? places() * sizes.units : 0);
        for (index group = 0; group < groups; ++group) {
            x_packed[group] = take_pairs(arena, p.d_weights.ih ? inputs.padded() : 0);
            h_packed[group] = take_pairs(arena, p.d_weights.hh ? sizes.outputs : 0);
            reset_packed[group] = take_pairs(arena, C::reset_before && p.d_weights.hh ? sizes.units : 0);
        }
        rounded_gates.data = arena.take<bf16>(rounded ? rounded_rows() * rounded_gates.stride() : 0);
        rounded_columns =
            arena.take<bf16>(rounded ? p.threads * panels_at_once * S::unit_gates * kept(group_capacity) : 0);
        x_rows = arena.take<const T*>(places());
        h_rows = arena.take<const T*>(places());
        full_packed = arena.take<T>(projected ? capacity * sizes.units : 0);
        gate_rows = arena.take<const T*>(places());
        c_prev_rows = arena.take<const T*>(p.d_weights.peephole ? places() : 0);
        c_rows = arena.take<const T*>(p.d_weights.peephole ? places() : 0);
        projected_rows = arena.take<const T*>(projected ? capacity : 0);
        d_x_rows = arena.take<T*>(p.d_x.data ? places() : 0);
        d_h_rows = arena.take<T*>(batch);
        d_full_rows = arena.take<T*>(projected ? batch : 0);
        d_reset_rows = arena.take<T*>(C::reset_before ? batch : 0);
        rows = arena.take<BackwardRow<T>>(p.threads * batch);
        a_rows = arena.take<const T*>(p.threads * S::unit_gates);
        out_rows = arena.take<T*>(p.threads * panels_at_once * S::unit_gates);
        if (!arena.fits()) return;
        for (index b = 0; b < batch; ++b) {
            d_h_rows[b] = d_h + b * sizes.outputs;
            if (projected) d_full_rows[b] = d_full + b * sizes.units;
            if (C::reset_before) d_reset_rows[b] = d_reset + b * sizes.units;
        }
    }

    // Calls f(sum of a group, gradient, count) for each of the weights that have a gradient.
    template <class F> void each_gradient(index group, F f) {
        const index rows = C::gates * sizes.hidden;
        const Weights<T>& d = p.d_weights;
        Weights<T>& sum = sums[group];
        if (d.ih) f(sum.ih, d.ih, rows * sizes.input);
        if (d.hh) f(sum.hh, d.hh, rows * sizes.output);
        if (d.bias_ih) f(sum.bias_ih, d.bias_ih, rows);
        if (d.bias_hh) f(sum.bias_hh, d.bias_hh, rows);
        if (d.projection) f(sum.projection, d.projection, sizes.output * sizes.hidden);
        if (d.peephole) f(sum.peephole, d.peephole, 3 * sizes.hidden);
    }
    void take_sums(Arena& arena, index group) {
        each_gradient(group, [&](T*& sum, T*, index count) { sum = arena.take<T>(count); });
    }
    // The sums of some chunks go into the gradients.
    void fold(bool first, const Team& team) {
        for (index group = folds ? 0 : 1; group < groups; ++group)
            each_gradient(group, [&](T* sum, T* gradient, index count) {
                for (index j = team.begin(count); j < team.end(count); ++j)
                    gradient[j] = first && group == 0 ? sum[j] : gradient[j] + sum[j];
            });
    }

    // Enough rows for two groups of some tiles, and so few weights that two sums of their gradients are near.
    bool sums_groups() const {
        constexpr index least_rows = 4 * tile_rows, near_gradients = 512 << 10, few_pairs = 256;
        const index weights = sizes.gates * (sizes.input + sizes.outputs);
        return p.layout.batch >= least_rows && p.layout.rows >= few_pairs && !p.weights.projection &&
               weights * index(sizeof(T)) <= near_gradients;
    }
    // Every group has its own places for the pairs of a chunk, wherever the others are: for about half of
    // them where all rows have one length (one of 24 rows more at most), else for all.
    index places() const { return groups * group_capacity; }

    // Whether any step hands a gradient on.
    bool flows() const { return p.d_h0 || p.layout.steps > 1; }
    // Narrow groups of columns where threads share them out and there are few.
    bool narrow() const {
        return shares_units<C, T>(sizes, p.layout, p.weights.projection, p.threads) &&
               p.output < 2 * max_width * panel_width<T> * p.threads;
    }
    // Whether the rows are few, and products can read a matrix of so many columns in whole vectors.
    bool is_direct(index columns) const {
        return p.layout.rows <= direct_rows && p.hidden % S::panel == 0 && columns % S::panel == 0;
    }
    index kept(index depth) const { return rounded ? kept_depth<M>(depth) : depth; }
    // B of so many columns where A is the gates of a span.
    Packed<T> take_gates(Arena& arena, Span span, index columns, bool round) const {
        const index depth =
            round ? rounded_gates.order.depth(span) * index(M::parts) : sizes.units * span.count;
        return take_packed(arena, depth * columns, round);
    }
    // B where it is what the weights were multiplied with in a chunk.
    Packed<T> take_pairs(Arena& arena, index columns) const {
        return take_packed(arena, kept(group_capacity) * columns, rounded);
    }
    static Packed<T> take_packed(Arena& arena, index count, bool round) {
        return {arena.take<char>(count * index(round ? sizeof(bf16) : sizeof(T)))};
    }
    index rounded_rows() const { return places() + 2 * tile_edge; }
    // From one panel of a pair's gate gradients to the next.
    index panel_stride() const { return places() * S::unit_gates; }
    T* gate_row(index pair) const { return d_gates + pair * S::unit_gates; }
    Depth depth_of(Span span) const { return {span.count * S::panel, sizes.panels, panel_stride()}; }

    void pack(const Team& team) {
        const Weights<const T, const Matrix>& w = p.weights;
        if constexpr (rounds<M>)
            for (index k = team.begin(rounded_rows()); rounded && k < team.end(rounded_rows()); ++k)
                rounded_gates.zero_ends(k);
        if (p.d_x.data && !direct_input)
            pack_gates(input, w.ih, inputs, C::input, C::input_gate, rounded, team);
        if (flows() && !direct_recurrent)
            pack_gates(recurrent, w.hh, states, C::recurrent, C::recurrent_gate, rounded_steps, team);
        if constexpr (C::reset_before)
            if (!direct_recurrent)
                pack_gates(candidate, w.hh, states, C::candidate, C::recurrent_gate, rounded_steps, team);
        if (w.projection) pack_matrix(projection, w.projection, sizes.output, hidden, team);
        if (w.peephole) pack_peephole(peephole, w.peephole, sizes, team);
    }

    void pack_gates(Packed<T> packed, const Matrix* w, Columns<T> columns, Span span, const int* gate,
                    bool round, const Team& team) const {
        if (!round) return pack_gates_transposed<C>(packed.exact(), w, columns, span, gate, sizes, team);
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

}  // namespace penstock::PENSTOCK_ISA
