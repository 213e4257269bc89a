// What a forward pass needs before it starts: which way its products go, weights packed for them, and where
// everything lies.
#pragma once

#include "pack.hpp"

namespace penstock::PENSTOCK_ISA {

template <class C, class T, class M> struct ForwardPlan {
    using S = Sizes<C, T>;
    using Matrix = typename M::Matrix;
    // Bytes of weights up to which a core's own cache holds them until the next step.
    static constexpr index near_weights = 1 << 20;
    const ForwardArguments<T, Matrix>& p;
    S sizes;
    Infinity infinity;
    bool direct;    // few rows: products with the weights as they are
    bool together;  // both products of a step at once: of a single step, or where their weights are near
    bool h_in_y;    // nothing is kept and a row of y is as wide as a state: h lives there
    GateWeights<C, T, M> input, recurrent;
    GateWeights<C, T, M> candidate;   // for reset_before
    T *projection, *bias, *peephole;  // packed
    States<T> h0, c0;
    T *gates, *h, *c;  // of every pair (in the reserve), or of a chunk, of two steps and of one
    T *full, *reset;   // h before the projection, r * h: one row a batch row
    // Tables of rows, for each thread:
    const T **x_rows, **h_rows, **old_c_rows, **reset_rows;
    T **c_rows, **new_h_rows, **new_c_rows, **out_rows;
    bf16 *rounded_x, *rounded_h;  // rows of A where products are rounded, for each thread
    index scratch;                // rows a thread's tables have
    index turn;                   // of the calls of this thread that keep nothing

    ForwardPlan(Arena& arena, const ForwardArguments<T, Matrix>& p_)
        : p(p_),
          sizes{p_.input, p_.hidden, p_.output},
          direct(p_.layout.rows <= direct_rows),
          together(direct ? p_.layout.steps == 1 && !shallow()
                          : by_tiles && one_span<C> &&
                                sizes.gates * (kept_depth<M>(sizes.input) + kept_depth<M>(sizes.output)) *
                                        index(sizeof(bf16)) <=
                                    near_weights),
          h_in_y(!p_.reserve && !p_.weights.projection && sizes.hidden == sizes.units),
          input(arena, p_.weights.ih, sizes.input, C::input, C::input_gate, sizes, direct && !shallow()),
          recurrent(arena, p_.weights.hh, sizes.output, C::recurrent, C::recurrent_gate, sizes, direct),
          candidate(arena, p_.weights.hh, sizes.output, candidate_span(), C::recurrent_gate, sizes,
                    direct || !C::reset_before),
          h0(arena, p_.h0, sizes.output, sizes.outputs, p_.layout),
          c0(arena, p_.c0, sizes.hidden, sizes.cell_states, p_.layout) {
        static thread_local index turns = 0;
        turn = p.reserve ? 0 : turns++;
        const index batch = p.layout.batch;
        const bool projected = p.weights.projection != nullptr;
        projection = arena.take<T>(projected ? sizes.hidden * sizes.outputs : 0);
        bias = arena.take<T>(sizes.gates);
        peephole = arena.take<T>(p.weights.peephole ? 3 * sizes.units : 0);
        full = arena.take<T>(projected ? batch * sizes.units : 0);
        reset = arena.take<T>(C::reset_before ? batch * sizes.units : 0);
        scratch = batch + chunk_rows<M> + tile_edge;
        if (p.reserve) {
            gates = p.reserve;
            c = gates + p.layout.rows * sizes.gates;
            h = C::gate_is_state ? gates : c + p.layout.rows * sizes.cell_states;
        } else {
            gates = arena.take<T>((batch + p.threads * chunk_rows<M>)*sizes.gates);
            c = arena.take<T>(batch * sizes.cell_states);
            h = arena.take<T>(h_in_y ? 0 : 2 * batch * sizes.outputs);
        }
        rounded_x = arena.take<bf16>(p.threads * rounded_rows() * kept_depth<M>(sizes.input));
        rounded_h = arena.take<bf16>(p.threads * rounded_rows() * kept_depth<M>(sizes.output));
        x_rows = arena.take<const T*>(p.threads * scratch);
        h_rows = arena.take<const T*>(p.threads * scratch);
        old_c_rows = arena.take<const T*>(p.threads * scratch);
        reset_rows = arena.take<const T*>(p.threads * scratch);
        c_rows = arena.take<T*>(p.threads * scratch);
        new_h_rows = arena.take<T*>(p.threads * scratch);
        new_c_rows = arena.take<T*>(p.threads * scratch);
        out_rows = arena.take<T*>(p.threads * scratch);
    }

    index rounded_rows() const { return rounds_rows() ? scratch : 0; }
    // The few rows of a direct product are rounded where the weights are.
    bool rounds_rows() const { return rounds<M> && (!direct || same<Matrix, bf16>); }
    static constexpr Span candidate_span() {
        if constexpr (C::reset_before) return C::candidate;
        else return {0, 0};
    }

    // Inputs so few that inner products of them are mostly the sums over a vector.
    bool shallow() const { return !rounds<M> && sizes.input < sizes.panel; }

    void pack(const Team& team) {
        const Weights<const T, const Matrix>& w = p.weights;
        if (input.packed) input.pack(sizes, team, infinity);
        if (!direct) {
            recurrent.pack(sizes, team, infinity);
            if (C::reset_before) candidate.pack(sizes, team, infinity);
        }
        pack_bias<C>(bias, w, sizes, team);
        if (w.projection) pack_transposed(projection, w.projection, sizes.states(), sizes.hidden, team);
        if (w.peephole) pack_peephole(peephole, w.peephole, sizes, team);
        if (C::has_cell_state && !p.reserve)
            for (index b = team.begin(p.layout.batch); b < team.end(p.layout.batch); ++b)
                copy(c + b * sizes.units, c0.at(b), sizes.units);
    }

    T* h_at(index time, index row) const {
        if (p.reserve) return h + (p.layout.offset[time] + row) * sizes.outputs;
        if (h_in_y) return p.y.at(p.layout, time, row);
        return h + ((time & 1) * p.layout.batch + row) * sizes.outputs;
    }
    T* c_at(index time, index row) const {
        return c + (p.reserve ? p.layout.offset[time] + row : row) * sizes.units;
    }
    const T* c_before(const Step& step, index row) const {
        if (!p.reserve) return c + row * sizes.units;  // c0 until the row runs
        return row < step.previous_rows ? c_at(step.previous, row) : c0.at(row);
    }
    const T* h_before(const Step& step, index row) const {
        return row < step.previous_rows ? h_at(step.previous, row) : h0.at(row);
    }
};

}  // namespace penstock::PENSTOCK_ISA
