// The time loop, forward and backward, once for every cell.
//
// Threads own rows of the batch for the whole sequence, so steps need no barrier; the weight gradients,
// which sum over rows, are shared out by gate instead. Either way each value is computed by one thread in
// one order: results do not depend on the number of threads.
//
// The input product is hoisted out of the recurrence in chunks of steps that stay in cache. Only running
// rows are touched (see Layout): a ragged batch costs what its steps cost.
#pragma once

#include "cells/cell.hpp"
#include "gemm.hpp"
#include "kernels.hpp"
#include "threads.hpp"

namespace penstock::PENSTOCK_ISA {

constexpr index chunk_rows = 96;       // rows of a hoisted input product
constexpr index gradient_chunk = 512;  // (step, row) pairs summed at once into a weight gradient

// Hands out slices of one block of memory. Planned twice: over no memory to learn the size, then for real.
class Arena {
  public:
    explicit Arena(char* base = nullptr) : base_(base) {}
    template <class U> U* take(index count) {
        U* start = reinterpret_cast<U*>(base_ + used_);
        used_ += static_cast<std::size_t>(divide_up(count * index(sizeof(U)), 64) * 64);
        return base_ ? start : nullptr;
    }
    std::size_t used() const { return used_; }

  private:
    char* base_;
    std::size_t used_ = 0;
};

template <class Plan, class... Arguments> Plan make_plan(const Arguments&... arguments) {
    Arena counted;
    Plan(counted, arguments...);
    Arena real(static_cast<char*>(workspace(counted.used() + 64)));
    return Plan(real, arguments...);
}

// Sizes of one call. `group` panels of units are computed together: four when a unit has one slot.
template <class C, class T> struct Sizes {
    static constexpr index panel = panel_width<T>;
    static constexpr index group = C::slots == 1 ? max_width : 1;
    index input, hidden, output;
    index panels = divide_up(hidden, panel);
    index units = panels * panel;                      // H, padded
    index gates = units * C::slots;                    // one row of gates, padded
    index outputs = divide_up(output, panel) * panel;  // R, padded
    index cell_states = C::has_cell_state ? units : 0;

    index groups() const { return divide_up(panels, group); }
    index group_panels(index g) const { return min(group, panels - g * group); }
    index reserve(index rows) const { return rows * (gates + cell_states + outputs); }
    Columns<T> inputs() const { return {input}; }
    Columns<T> states() const { return {output}; }
};

// The steps in the order they are computed, with their neighbours.
struct Step {
    index time, rows;
    index previous, previous_rows;  // computed before this one; -1, 0 at the start
    index next_rows;                // 0 at the end
};
inline Step step_of(const Layout& layout, bool reverse, index s) {
    const index last = layout.steps - 1, sign = reverse ? -1 : 1, time = reverse ? last - s : s;
    const bool first = s == 0, final = s == last;
    return {time, layout.active[time], first ? -1 : time - sign, first ? 0 : layout.active[time - sign],
            final ? 0 : layout.active[time + sign]};
}

// Bounds of the rows each thread owns: about equal numbers of (step, row) pairs.
inline index first_row(const Layout& layout, int thread, int threads) {
    const index wanted = layout.rows * thread / threads;
    index row = 0, before = 0;
    while (row < layout.batch) {
        index length = 0;  // of this row: the steps at which more than `row` rows run (binary search)
        for (index bound = layout.steps; length < bound;) {
            const index middle = (length + bound) / 2;
            if (layout.active[middle] > row) length = middle + 1;
            else bound = middle;
        }
        if (before + length / 2 >= wanted && thread < threads) return row;
        before += length;
        ++row;
    }
    return row;
}

template <class T> void copy(T* to, const T* from, index count) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
}
template <class T> void zero(T* to, index count) {
    std::memset(to, 0, static_cast<std::size_t>(count) * sizeof(T));
}

// ---- packing -------------------------------------------------------------------------------------------

// Packs `span` of a weight matrix (G*H, depth) for C = A * W^T: depth x (panels * span.count * panel).
template <class C, class T>
void pack_gates(T* packed, const T* matrix, index depth, Span span, const int* gate,
                const Sizes<C, T>& sizes) {
    constexpr index panel = panel_width<T>;
    for (index g = 0; g < sizes.groups(); ++g) {
        const index width = sizes.group_panels(g) * span.count * panel;
        for (index j = 0; j < width; ++j) {
            const index slot = span.begin + j / panel % span.count;
            const index unit = (g * sizes.group + j / (panel * span.count)) * panel + j % panel;
            const T* row =
                unit < sizes.hidden ? matrix + (gate[slot] * sizes.hidden + unit) * depth : nullptr;
            for (index k = 0; k < depth; ++k) packed[k * width + j] = row ? row[k] : T(0);
        }
        packed += depth * width;
    }
}

// Packs `span` of a weight matrix (G*H, columns) for C = A * W, the rows in the order of the gates in memory.
template <class C, class T>
void pack_gates_transposed(T* packed, const T* matrix, Columns<T> shape, Span span, const int* gate,
                           const Sizes<C, T>& sizes, const T** rows) {
    constexpr index panel = panel_width<T>;
    index k = 0;
    for (index p = 0; p < sizes.panels; ++p)
        for (int slot = span.begin; slot < span.begin + span.count; ++slot)
            for (index lane = 0; lane < panel; ++lane, ++k) {
                const index unit = p * panel + lane;
                rows[k] = unit < sizes.hidden ? matrix + (gate[slot] * sizes.hidden + unit) * shape.columns
                                              : nullptr;
            }
    pack_rows(packed, rows, k, shape);
}

template <class C, class T> void pack_bias(T* packed, const Weights<const T>& w, const Sizes<C, T>& sizes) {
    constexpr index panel = panel_width<T>;
    for (index p = 0; p < sizes.panels; ++p)
        for (int slot = 0; slot < C::slots; ++slot)
            for (index lane = 0; lane < panel; ++lane, ++packed) {
                const index unit = p * panel + lane;
                T sum = T(0);
                if (unit < sizes.hidden) {
                    const int in = C::input_gate[slot], re = C::recurrent_gate[slot];
                    if (in >= 0 && w.bias_ih) sum += w.bias_ih[in * sizes.hidden + unit];
                    if (re >= 0 && w.bias_hh) sum += w.bias_hh[re * sizes.hidden + unit];
                }
                *packed = sum;
            }
}

// Rows (batch, count) of a state, sorted and zero padded; zeros where there is no state.
template <class T>
void pack_state(T* packed, const T* state, index count, index padded, const Layout& layout) {
    for (index b = 0; b < layout.batch; ++b)
        copy_padded(packed + b * padded, state ? state + layout.state_position[b] * count : nullptr,
                    state ? count : 0, padded);
}

template <class C, class T> index packed_gates(const Sizes<C, T>& sizes, Span span, index depth) {
    return sizes.units * span.count * depth;
}

// ---- forward -------------------------------------------------------------------------------------------

template <class C, class T> struct ForwardPlan {
    using S = Sizes<C, T>;
    const ForwardArguments<T>& p;
    S sizes;
    T *input, *recurrent, *candidate, *projection, *bias, *peephole;  // packed weights
    T *h0, *c0;                                                       // packed initial states
    T *gates, *h, *c;  // of every pair (in the reserve), or of a chunk / of two steps
    T *full, *reset;   // h before the projection, r * h: one row a batch row
    const T **a_rows, **h_rows, **full_rows, **reset_rows;
    T **c_rows, **gate_rows, **out_rows;
    index pairs;  // rows of the pointer tables: the pairs of one chunk over all threads

    ForwardPlan(Arena& arena, const ForwardArguments<T>& p_) : p(p_), sizes{p_.input, p_.hidden, p_.output} {
        const index batch = p.layout.batch;
        pairs = 2 * (batch + chunk_rows) + chunk_rows * p.threads;
        input = arena.take<T>(packed_gates(sizes, C::input, sizes.input));
        recurrent = arena.take<T>(packed_gates(sizes, C::recurrent, sizes.output));
        if constexpr (C::reset_before) {
            candidate = arena.take<T>(packed_gates(sizes, C::candidate, sizes.hidden));
            reset = arena.take<T>(batch * sizes.units);
        }
        projection = arena.take<T>(p.weights.projection ? sizes.hidden * sizes.outputs : 0);
        full = arena.take<T>(p.weights.projection ? batch * sizes.units : 0);
        bias = arena.take<T>(sizes.gates);
        peephole = arena.take<T>(p.weights.peephole ? 3 * sizes.units : 0);
        h0 = arena.take<T>(batch * sizes.outputs);
        c0 = arena.take<T>(batch * sizes.cell_states);
        if (p.reserve) {
            gates = p.reserve;
            c = gates + p.layout.rows * sizes.gates;
            h = c + p.layout.rows * sizes.cell_states;
        } else {
            gates = arena.take<T>(pairs * sizes.gates);
            c = arena.take<T>(2 * batch * sizes.cell_states);
            h = arena.take<T>(2 * batch * sizes.outputs);
        }
        a_rows = arena.take<const T*>(pairs);
        c_rows = arena.take<T*>(pairs);
        h_rows = arena.take<const T*>(batch);
        full_rows = arena.take<const T*>(batch);
        reset_rows = arena.take<const T*>(batch);
        gate_rows = arena.take<T*>(batch);
        out_rows = arena.take<T*>(batch);
    }

    void pack() {
        const Weights<const T>& w = p.weights;
        pack_gates<C>(input, w.ih, sizes.input, C::input, C::input_gate, sizes);
        pack_gates<C>(recurrent, w.hh, sizes.output, C::recurrent, C::recurrent_gate, sizes);
        if constexpr (C::reset_before)
            pack_gates<C>(candidate, w.hh, sizes.hidden, C::candidate, C::recurrent_gate, sizes);
        pack_bias<C>(bias, w, sizes);
        if (w.projection) pack_projection();
        if (w.peephole)
            for (index k = 0; k < 3; ++k)
                copy_padded(peephole + k * sizes.units, w.peephole + k * sizes.hidden, sizes.hidden,
                            sizes.units);
        pack_state(h0, p.h0, sizes.output, sizes.outputs, p.layout);
        if (C::has_cell_state) pack_state(c0, p.c0, sizes.hidden, sizes.units, p.layout);
    }

    void pack_projection() {  // (R, H): h_R = h_H * W^T
        const Columns<T> columns = sizes.states();
        T* packed = projection;
        for (index group = 0; group < columns.groups(); ++group) {
            const index width = columns.width(group) * panel_width<T>;
            for (index j = 0; j < width; ++j)
                for (index k = 0; k < sizes.hidden; ++k)
                    packed[k * width + j] =
                        j < columns.valid(group)
                            ? p.weights.projection[(columns.begin(group) + j) * sizes.hidden + k]
                            : T(0);
            packed += sizes.hidden * width;
        }
    }

    // Where pair (step, row) keeps its state: in the reserve, or in one of two alternating rows.
    T* h_at(index time, index row) const { return h + state_row(time, row) * sizes.outputs; }
    T* c_at(index time, index row) const { return c + state_row(time, row) * sizes.units; }
    index state_row(index time, index row) const {
        return p.reserve ? p.layout.offset[time] + row : (time & 1) * p.layout.batch + row;
    }
};

// The rows [begin, end) of the batch, over all steps.
template <class C, class T> class ForwardPass {
  public:
    ForwardPass(const ForwardPlan<C, T>& plan, index begin, index end, index thread)
        : plan_(plan),
          p_(plan.p),
          sizes_(plan.sizes),
          begin_(begin),
          end_(end),
          scratch_(2 * begin + chunk_rows * thread) {}

    void run() {
        never_running();
        const Layout& layout = p_.layout;
        for (index s = 0; s < layout.steps;) {
            index pairs = 0, last = s;
            do {
                pairs += collect(step_of(layout, p_.reverse, last++), pairs);
            } while (last < layout.steps && pairs + (end_ - begin_) <= chunk_rows);
            input_product(pairs);
            for (index first_pair = 0; s < last; ++s) {
                const Step step = step_of(layout, p_.reverse, s);
                first_pair += compute(step, first_pair);
            }
        }
    }

  private:
    using S = Sizes<C, T>;
    static constexpr index panel = panel_width<T>;

    index running(index rows) const { return max(min(rows, end_) - begin_, 0); }

    // Rows of no length: the final state is the initial one, and every output is zero.
    void never_running() {
        const index running_once = p_.layout.steps ? p_.layout.active[0] : 0;
        for (index b = max(begin_, running_once); b < end_; ++b)
            write_final(b, plan_.h0 + b * sizes_.outputs, plan_.c0 + b * sizes_.units);
    }

    void write_final(index b, const T* h, const T* c) {
        const index row = p_.layout.state_position[b];
        copy(p_.h_n + row * sizes_.output, h, sizes_.output);
        if constexpr (C::has_cell_state) copy(p_.c_n + row * sizes_.hidden, c, sizes_.hidden);
    }

    // Addresses of the input and of the gates of a step's rows, from place `pair` of the chunk on.
    index collect(const Step& step, index pair) {
        const index rows = running(step.rows);
        for (index i = 0; i < rows; ++i) {
            const index b = begin_ + i;
            plan_.a_rows[scratch_ + pair + i] = p_.x.at(p_.layout, step.time, b);
            const index place = p_.reserve ? p_.layout.offset[step.time] + b : scratch_ + pair + i;
            plan_.c_rows[scratch_ + pair + i] = plan_.gates + place * sizes_.gates;
        }
        return rows;
    }

    void input_product(index rows) {
        const T* weights = plan_.input;
        for (index g = 0; g < sizes_.groups(); ++g) {
            const index panels = sizes_.group_panels(g), width = panels * C::input.count;
            const index at = (g * S::group * C::slots + C::input.begin) * panel;
            multiply<T>({.a = plan_.a_rows + scratch_,
                         .depth = {sizes_.input},
                         .b = weights,
                         .width = width,
                         .c = plan_.c_rows + scratch_,
                         .c_offset = at,
                         .columns = width * panel,
                         .bias = plan_.bias + at},
                        rows);
            weights += sizes_.input * width * panel;
            fill_untouched_slots(g, rows);
        }
    }

    // Slots the input product does not reach start from their bias.
    void fill_untouched_slots(index g, index rows) {
        for (int slot = 0; slot < C::slots; ++slot) {
            if (C::input_gate[slot] >= 0) continue;
            const index at = (g * C::slots + slot) * panel;
            for (index i = 0; i < rows; ++i) copy(plan_.c_rows[scratch_ + i] + at, plan_.bias + at, panel);
        }
    }

    index compute(const Step& step, index first_pair) {
        const index rows = running(step.rows);
        for (index i = 0; i < rows; ++i) {
            const index b = begin_ + i;
            const bool running_before = b < step.previous_rows;
            plan_.h_rows[b] = running_before ? plan_.h_at(step.previous, b) : plan_.h0 + b * sizes_.outputs;
            plan_.gate_rows[b] = plan_.c_rows[scratch_ + first_pair + i];
            plan_.out_rows[b] = plan_.h_at(step.time, b);
            if (p_.weights.projection) plan_.full_rows[b] = plan_.full + b * sizes_.units;
            if constexpr (C::reset_before) plan_.reset_rows[b] = plan_.reset + b * sizes_.units;
        }
        recurrent_product(plan_.recurrent, C::recurrent, plan_.h_rows, sizes_.output, rows, step,
                          [](const Forward<T>& cell) { C::forward(cell); });
        if constexpr (C::reset_before)
            recurrent_product(plan_.candidate, C::candidate, plan_.reset_rows, sizes_.hidden, rows, step,
                              [](const Forward<T>& cell) { C::forward_candidate(cell); });
        if (p_.weights.projection) project(rows);
        write_outputs(step, rows);
        return rows;
    }

    template <class Pointwise>
    PENSTOCK_INLINE void recurrent_product(const T* weights, Span span, const T* const* a_rows, index depth,
                                           index rows, const Step& step, Pointwise pointwise) {
        for (index g = 0; g < sizes_.groups(); ++g) {
            const index panels = sizes_.group_panels(g), width = panels * span.count;
            multiply<T>({.a = a_rows + begin_,
                         .depth = {depth},
                         .b = weights,
                         .width = width,
                         .c = plan_.gate_rows + begin_,
                         .c_offset = (g * S::group * C::slots + span.begin) * panel,
                         .columns = width * panel,
                         .accumulate = true},
                        rows);
            weights += depth * width * panel;
            for (index i = 0; i < rows; ++i)
                for (index q = g * S::group; q < g * S::group + panels; ++q)
                    pointwise(cell_block(step, begin_ + i, q));
        }
    }

    PENSTOCK_INLINE Forward<T> cell_block(const Step& step, index b, index q) const {
        const index at = q * panel;
        Forward<T> block{};
        block.gates = plan_.gate_rows[b] + at * C::slots;
        block.h_prev = plan_.h_rows[b] + at;
        block.h = p_.weights.projection ? plan_.full + b * sizes_.units + at : plan_.out_rows[b] + at;
        if constexpr (C::has_cell_state) {
            block.c = plan_.c_at(step.time, b) + at;
            block.c_prev =
                (b < step.previous_rows ? plan_.c_at(step.previous, b) : plan_.c0 + b * sizes_.units) + at;
        }
        if constexpr (C::reset_before) block.reset_hidden = plan_.reset + b * sizes_.units + at;
        for (index k = 0; k < 3; ++k) block.peephole[k] = plan_.peephole + k * sizes_.units + at;
        return block;
    }

    void project(index rows) {
        const Columns<T> columns = sizes_.states();
        const T* weights = plan_.projection;
        for (index group = 0; group < columns.groups(); ++group) {
            const index width = columns.width(group);
            multiply<T>({.a = plan_.full_rows + begin_,
                         .depth = {sizes_.hidden},
                         .b = weights,
                         .width = width,
                         .c = plan_.out_rows + begin_,
                         .c_offset = columns.begin(group),
                         .columns = width * panel},
                        rows);
            weights += sizes_.hidden * width * panel;
        }
    }

    void write_outputs(const Step& step, index rows) {
        for (index i = 0; i < rows; ++i) {
            const index b = begin_ + i;
            copy(p_.y.at(p_.layout, step.time, b), plan_.out_rows[b], sizes_.output);
            const T* c = plan_.c_at(step.time, b);  // nobody looks at it for a cell without one
            if constexpr (C::has_cell_state)
                if (p_.cell_states.data) copy(p_.cell_states.at(p_.layout, step.time, b), c, sizes_.hidden);
            if (b >= step.next_rows) write_final(b, plan_.out_rows[b], c);
        }
        if (!p_.layout.zero_padding) return;
        for (index b = max(begin_, step.rows); b < end_; ++b) {
            zero(p_.y.at(p_.layout, step.time, b), sizes_.output);
            if (p_.cell_states.data) zero(p_.cell_states.at(p_.layout, step.time, b), sizes_.hidden);
        }
    }

    const ForwardPlan<C, T>& plan_;
    const ForwardArguments<T>& p_;
    const S& sizes_;
    const index begin_, end_, scratch_;
};

template <class C, class T> void forward(const ForwardArguments<T>& p) {
    auto plan = make_plan<ForwardPlan<C, T>>(p);
    plan.pack();
    const int threads = static_cast<int>(max(1, min(p.threads, p.layout.batch)));
    parallel(threads, [&](int thread) {
        const index begin = first_row(p.layout, thread, threads);
        const index end = thread + 1 == threads ? p.layout.batch : first_row(p.layout, thread + 1, threads);
        ForwardPass<C, T>(plan, begin, end, thread).run();
    });
}

// ---- backward ------------------------------------------------------------------------------------------

template <class C, class T> struct BackwardPlan {
    const BackwardArguments<T>& p;
    Sizes<C, T> sizes;
    T *input, *recurrent, *candidate, *projection, *peephole;  // weights packed for C = A * W
    T *h0, *c0;
    const T *gates, *c, *h;  // the reserve
    T* d_gates;              // of every pair
    T *d_h, *d_c;            // one row a batch row: gradient flowing back through time
    T *d_full, *d_reset;     // gradients of h before the projection, of r * h: one row a batch row
    T *full, *d_projected;   // of every pair, for a projection: h before it, gradient after it
    T* reset;                // of every pair: r * h_prev
    const T **h_prev_rows, **c_prev_rows, **x_rows, **pair_rows;  // of every pair
    const T** a_rows;
    T** out_rows;  // one a batch row
    T** d_x_rows;
    T *packed_b, *packed_a;  // for each thread, while weight gradients are summed
    const T** packed_a_rows;
    index widest;

    BackwardPlan(Arena& arena, const BackwardArguments<T>& p_)
        : p(p_), sizes{p_.input, p_.hidden, p_.output} {
        const index batch = p.layout.batch, pairs = p.layout.rows;
        const bool projected = p.weights.projection != nullptr;
        input = arena.take<T>(p.d_x.data ? sizes.units * C::input.count * sizes.inputs().padded() : 0);
        recurrent = arena.take<T>(sizes.units * C::recurrent.count * sizes.outputs);
        candidate = arena.take<T>(C::reset_before ? sizes.units * sizes.units : 0);
        projection = arena.take<T>(projected ? sizes.output * sizes.units : 0);
        peephole = arena.take<T>(p.weights.peephole ? 3 * sizes.units : 0);
        h0 = arena.take<T>(batch * sizes.outputs);
        c0 = arena.take<T>(batch * sizes.cell_states);
        gates = p.reserve;
        c = gates + pairs * sizes.gates;
        h = c + pairs * sizes.cell_states;
        d_gates = arena.take<T>(pairs * sizes.gates);
        d_h = arena.take<T>(batch * sizes.outputs);
        d_c = arena.take<T>(batch * sizes.cell_states);
        d_full = arena.take<T>(projected ? batch * sizes.units : 0);
        d_reset = arena.take<T>(C::reset_before ? batch * sizes.units : 0);
        full = arena.take<T>(projected ? pairs * sizes.units : 0);
        d_projected = arena.take<T>(projected ? pairs * sizes.outputs : 0);
        reset = arena.take<T>(C::reset_before ? pairs * sizes.units : 0);
        h_prev_rows = arena.take<const T*>(pairs);
        c_prev_rows = arena.take<const T*>(pairs);
        x_rows = arena.take<const T*>(pairs);
        pair_rows = arena.take<const T*>(pairs);
        d_x_rows = arena.take<T*>(pairs);
        a_rows = arena.take<const T*>(max(batch, sizes.gates));
        out_rows = arena.take<T*>(max(batch, sizes.outputs));
        widest = max(max(sizes.inputs().padded(), sizes.outputs), sizes.units);
        packed_b = arena.take<T>(p.threads * gradient_chunk * widest);
        packed_a = arena.take<T>(p.threads * gradient_chunk * panel_width<T>);
        packed_a_rows = arena.take<const T*>(p.threads * panel_width<T>);
    }

    void pack() {
        const Weights<const T>& w = p.weights;
        if (p.d_x.data)
            pack_gates_transposed<C>(input, w.ih, sizes.inputs(), C::input, C::input_gate, sizes, a_rows);
        pack_gates_transposed<C>(recurrent, w.hh, sizes.states(), C::recurrent, C::recurrent_gate, sizes,
                                 a_rows);
        if constexpr (C::reset_before)
            pack_gates_transposed<C>(candidate, w.hh, {sizes.hidden}, C::candidate, C::recurrent_gate, sizes,
                                     a_rows);
        if (w.projection) {
            for (index r = 0; r < sizes.output; ++r) a_rows[r] = w.projection + r * sizes.hidden;
            pack_rows(projection, a_rows, sizes.output, {sizes.hidden});
        }
        if (w.peephole)
            for (index k = 0; k < 3; ++k)
                copy_padded(peephole + k * sizes.units, w.peephole + k * sizes.hidden, sizes.hidden,
                            sizes.units);
        pack_state(h0, p.h0, sizes.output, sizes.outputs, p.layout);
        if (C::has_cell_state) pack_state(c0, p.c0, sizes.hidden, sizes.units, p.layout);
        find_rows();
    }

    void find_rows() {
        for (index s = 0; s < p.layout.steps; ++s) {
            const Step step = step_of(p.layout, p.reverse, s);
            for (index b = 0; b < step.rows; ++b) {
                const index pair = p.layout.offset[step.time] + b;
                const bool before = b < step.previous_rows;
                const index previous = before ? p.layout.offset[step.previous] + b : 0;
                h_prev_rows[pair] = before ? h + previous * sizes.outputs : h0 + b * sizes.outputs;
                if (C::has_cell_state)
                    c_prev_rows[pair] = before ? c + previous * sizes.units : c0 + b * sizes.units;
                x_rows[pair] = p.x.at(p.layout, step.time, b);
                if (p.d_x.data) d_x_rows[pair] = p.d_x.at(p.layout, step.time, b);
                pair_rows[pair] = d_gates + pair * sizes.gates;
            }
        }
    }
};

// The rows [begin, end) of the batch, back through all steps: gradients of the gates, states and input.
template <class C, class T> class BackwardPass {
  public:
    BackwardPass(const BackwardPlan<C, T>& plan, index begin, index end)
        : plan_(plan), p_(plan.p), sizes_(plan.sizes), begin_(begin), end_(end) {}

    void run() {
        for (index b = begin_; b < end_; ++b) load_final_gradient(b);
        for (index s = p_.layout.steps - 1; s >= 0; --s) compute(step_of(p_.layout, p_.reverse, s));
        const index running_once = p_.layout.steps ? p_.layout.active[0] : 0;
        for (index b = max(begin_, running_once); b < end_; ++b) write_initial_gradient(b);
    }

  private:
    using S = Sizes<C, T>;
    static constexpr index panel = panel_width<T>;

    void load_final_gradient(index b) {
        const index row = p_.layout.state_position[b];
        copy_padded(plan_.d_h + b * sizes_.outputs, p_.d_h_n ? p_.d_h_n + row * sizes_.output : nullptr,
                    p_.d_h_n ? sizes_.output : 0, sizes_.outputs);
        if (C::has_cell_state)
            copy_padded(plan_.d_c + b * sizes_.units, p_.d_c_n ? p_.d_c_n + row * sizes_.hidden : nullptr,
                        p_.d_c_n ? sizes_.hidden : 0, sizes_.units);
    }

    void write_initial_gradient(index b) {
        const index row = p_.layout.state_position[b];
        if (p_.d_h0) copy(p_.d_h0 + row * sizes_.output, plan_.d_h + b * sizes_.outputs, sizes_.output);
        if (p_.d_c0) copy(p_.d_c0 + row * sizes_.hidden, plan_.d_c + b * sizes_.units, sizes_.hidden);
    }

    void compute(const Step& step) {
        const index rows = max(min(step.rows, end_) - begin_, 0);
        for (index b = begin_; b < begin_ + rows; ++b) add_output_gradients(step, b);
        if (p_.weights.projection) unproject(step, rows);
        pointwise(step, rows, [](const Backward<T>& cell) { C::backward(cell); });

        const index pair = p_.layout.offset[step.time] + begin_;
        if constexpr (C::reset_before) {
            rows_of(plan_.d_reset, sizes_.units, rows);
            gates_product(plan_.candidate, C::candidate, {sizes_.hidden}, pair, rows, false);
            pointwise(step, rows, [](const Backward<T>& cell) { C::backward_reset(cell); });
        }
        rows_of(plan_.d_h, sizes_.outputs, rows);
        gates_product(plan_.recurrent, C::recurrent, sizes_.states(), pair, rows, C::carries_hidden);

        for (index b = max(begin_, step.previous_rows); b < begin_ + rows; ++b) write_initial_gradient(b);
        if (p_.d_x.data) input_gradient(step, pair, rows);
    }

    void rows_of(T* matrix, index stride, index rows) {
        for (index b = begin_; b < begin_ + rows; ++b) plan_.out_rows[b] = matrix + b * stride;
    }

    void add_output_gradients(const Step& step, index b) {
        if (p_.d_y.data)
            add(plan_.d_h + b * sizes_.outputs, p_.d_y.at(p_.layout, step.time, b), sizes_.output);
        if (p_.d_cell_states.data)
            add(plan_.d_c + b * sizes_.units, p_.d_cell_states.at(p_.layout, step.time, b), sizes_.hidden);
    }

    static void add(T* to, const T* from, index count) {
        for (index j = 0; j < count; ++j) to[j] += from[j];
    }

    void unproject(const Step& step, index rows) {
        for (index b = begin_; b < begin_ + rows; ++b) {
            T* kept = plan_.d_projected + (p_.layout.offset[step.time] + b) * sizes_.outputs;
            copy(kept, plan_.d_h + b * sizes_.outputs, sizes_.outputs);
            plan_.a_rows[b] = kept;
        }
        rows_of(plan_.d_full, sizes_.units, rows);
        product(plan_.projection, plan_.a_rows + begin_, 0, {sizes_.output}, {sizes_.hidden}, rows, false);
    }

    template <class Cell> PENSTOCK_INLINE void pointwise(const Step& step, index rows, Cell cell) {
        for (index b = begin_; b < begin_ + rows; ++b) {
            const index pair = p_.layout.offset[step.time] + b;
            for (index at = 0; at < sizes_.units; at += panel) {
                Backward<T> s{};
                s.gates = plan_.gates + pair * sizes_.gates + at * C::slots;
                s.d_gates = plan_.d_gates + pair * sizes_.gates + at * C::slots;
                s.h_prev = plan_.h_prev_rows[pair] + at;
                s.d_h = p_.weights.projection ? plan_.d_full + b * sizes_.units + at
                                              : plan_.d_h + b * sizes_.outputs + at;
                if constexpr (C::has_cell_state) {
                    s.c_prev = plan_.c_prev_rows[pair] + at;
                    s.c = plan_.c + pair * sizes_.units + at;
                    s.d_c = plan_.d_c + b * sizes_.units + at;
                }
                if (p_.weights.projection) s.h = plan_.full + pair * sizes_.units + at;
                if constexpr (C::reset_before) {
                    s.reset_hidden = plan_.reset + pair * sizes_.units + at;
                    s.d_reset_hidden = plan_.d_reset + b * sizes_.units + at;
                }
                for (index k = 0; k < 3; ++k) s.peephole[k] = plan_.peephole + k * sizes_.units + at;
                cell(s);
            }
        }
    }

    // out_rows (+)= gates[span] * W, for consecutive pairs.
    void gates_product(const T* weights, Span span, Columns<T> columns, index pair, index rows,
                       bool accumulate) {
        product(weights, plan_.pair_rows + pair, span.begin * panel,
                {span.count * panel, sizes_.panels, C::slots * panel}, columns, rows, accumulate);
    }

    void product(const T* weights, const T* const* a, index a_offset, Depth depth, Columns<T> columns,
                 index rows, bool accumulate) {
        for (index group = 0; group < columns.groups(); ++group) {
            const index width = columns.width(group);
            multiply<T>({.a = a,
                         .a_offset = a_offset,
                         .depth = depth,
                         .b = weights,
                         .width = width,
                         .c = plan_.out_rows + begin_,
                         .c_offset = columns.begin(group),
                         .columns = width * panel,
                         .accumulate = accumulate},
                        rows);
            weights += depth.total() * width * panel;
        }
    }

    void input_gradient(const Step& step, index pair, index rows) {
        const Columns<T> columns = sizes_.inputs();
        const Depth depth{C::input.count * panel, sizes_.panels, C::slots * panel};
        const T* weights = plan_.input;
        for (index group = 0; group < columns.groups(); ++group) {
            const index width = columns.width(group);
            multiply<T>({.a = plan_.pair_rows + pair,
                         .a_offset = C::input.begin * panel,
                         .depth = depth,
                         .b = weights,
                         .width = width,
                         .c = plan_.d_x_rows + pair,
                         .c_offset = columns.begin(group),
                         .columns = columns.valid(group)},
                        rows);
            weights += depth.total() * width * panel;
        }
        if (!p_.layout.zero_padding) return;
        for (index b = max(begin_, step.rows); b < end_; ++b)
            zero(p_.d_x.at(p_.layout, step.time, b), sizes_.input);
    }

    const BackwardPlan<C, T>& plan_;
    const BackwardArguments<T>& p_;
    const S& sizes_;
    const index begin_, end_;
};

// The gradients of the weights: sums over all pairs, one (panel of units, slot) at a time.
template <class C, class T> class WeightGradients {
  public:
    WeightGradients(const BackwardPlan<C, T>& plan, int thread)
        : plan_(plan),
          p_(plan.p),
          sizes_(plan.sizes),
          packed_b_(plan.packed_b + thread * gradient_chunk * plan.widest),
          packed_a_(plan.packed_a + thread * gradient_chunk * panel),
          a_rows_(plan.packed_a_rows + thread * panel) {}

    // Items are (panel of units, slot), and rows of the projection after them.
    static index items(const Sizes<C, T>& sizes) { return sizes.panels * C::slots; }

    void run(index begin, index end) {
        const Weights<T>& d = p_.d_weights;
        for (index item = begin; item < end; ++item) {
            bias(item, C::input_gate, d.bias_ih);
            bias(item, C::recurrent_gate, d.bias_hh);
            if (d.peephole) peephole(item);
        }
        matrix(begin, end, C::input, C::input_gate, plan_.x_rows, sizes_.input, d.ih);
        matrix(begin, end, C::recurrent, C::recurrent_gate, plan_.h_prev_rows, sizes_.output, d.hh);
        if constexpr (C::reset_before) { matrix_of_reset(begin, end); }
    }

    // (R, H): d_projected^T * full, by panels of R.
    void projection(index begin, index end) {
        for (index first = 0; first == 0 || first < p_.layout.rows; first += gradient_chunk) {
            const index pairs = min(gradient_chunk, p_.layout.rows - first);
            pack_b([&](index k) { return plan_.full + (first + k) * sizes_.units; }, pairs, sizes_.hidden);
            for (index q = begin; q < end; ++q) {
                pack_a([&](index k) { return plan_.d_projected + (first + k) * sizes_.outputs + q * panel; },
                       pairs);
                const index rows = min(panel, sizes_.output - q * panel);
                sum(rows, pairs, sizes_.hidden, p_.d_weights.projection + q * panel * sizes_.hidden,
                    first > 0);
            }
        }
    }

  private:
    static constexpr index panel = panel_width<T>;

    index units_of(index item) const { return min(panel, sizes_.hidden - item / C::slots * panel); }
    T* rows_of(T* matrix, index item, const int* gate, index columns) const {
        return matrix + (gate[item % C::slots] * sizes_.hidden + item / C::slots * panel) * columns;
    }
    const T* d_gate(index pair, index item) const {
        return plan_.d_gates + pair * sizes_.gates + item * panel;
    }

    void bias(index item, const int* gate, T* out) {
        if (!out || gate[item % C::slots] < 0) return;
        T total[panel] = {};
        sum_pairs(total, [&](index pair, index j) { return d_gate(pair, item)[j]; });
        copy(rows_of(out, item, gate, 1), total, units_of(item));
    }

    // Sums over all pairs, short sums of short sums: one long one would lose what the products keep.
    template <class Value> PENSTOCK_INLINE void sum_pairs(T* total, Value value) const {
        for (index first = 0; first < p_.layout.rows; first += gradient_chunk) {
            const index last = min(first + gradient_chunk, p_.layout.rows);
            T some[panel] = {};
            for (index from = first; from < last; from += depth_block) {
                T few[panel] = {};
                for (index pair = from; pair < min(from + depth_block, last); ++pair)
                    for (index j = 0; j < panel; ++j) few[j] += value(pair, j);
                for (index j = 0; j < panel; ++j) some[j] += few[j];
            }
            for (index j = 0; j < panel; ++j) total[j] += some[j];
        }
    }

    // Input and forget gate saw the previous cell state, the output gate the new one.
    void peephole(index item) {
        static constexpr int order[] = {0, 1, -1, 2};
        const int which = order[item % C::slots];
        if (which < 0) return;
        const index at = item / C::slots * panel;
        T total[panel] = {};
        sum_pairs(total, [&](index pair, index j) {
            const T* seen = which == 2 ? plan_.c + pair * sizes_.units : plan_.c_prev_rows[pair];
            return d_gate(pair, item)[j] * seen[at + j];
        });
        copy(p_.d_weights.peephole + which * sizes_.hidden + at, total, units_of(item));
    }

    void matrix(index begin, index end, Span span, const int* gate, const T* const* b_rows, index columns,
                T* out) {
        if (!out) return;
        matrix_with([&](index pair) { return b_rows[pair]; }, begin, end, span, gate, columns, out);
    }

    void matrix_of_reset(index begin, index end) {
        if constexpr (C::reset_before)
            if (p_.d_weights.hh)
                matrix_with([&](index pair) { return plan_.reset + pair * sizes_.units; }, begin, end,
                            C::candidate, C::recurrent_gate, sizes_.hidden, p_.d_weights.hh);
    }

    template <class Row>
    void matrix_with(Row row, index begin, index end, Span span, const int* gate, index columns, T* out) {
        for (index first = 0; first == 0 || first < p_.layout.rows; first += gradient_chunk) {
            const index pairs = min(gradient_chunk, p_.layout.rows - first);
            pack_b([&](index k) { return row(first + k); }, pairs, columns);
            for (index item = begin; item < end; ++item) {
                const index slot = item % C::slots;
                if (slot < span.begin || slot >= span.begin + span.count) continue;
                pack_a([&](index k) { return d_gate(first + k, item); }, pairs);
                sum(units_of(item), pairs, columns, rows_of(out, item, gate, columns), first > 0);
            }
        }
    }

    template <class Row> void pack_b(Row row, index pairs, index columns) {
        const Columns<T> shape{columns};
        T* packed = packed_b_;
        for (index group = 0; group < shape.groups(); ++group) {
            const index width = shape.width(group) * panel;
            for (index k = 0; k < pairs; ++k, packed += width)
                copy_padded(packed, row(k) + shape.begin(group), shape.valid(group), width);
        }
    }

    template <class Row> void pack_a(Row row, index pairs) {
        for (index k = 0; k < pairs; ++k) copy(packed_a_ + k * panel, row(k), panel);
    }

    // out (rows, columns) (+)= packed_a^T * packed_b.
    void sum(index rows, index pairs, index columns, T* out, bool accumulate) {
        const Columns<T> shape{columns};
        T* out_rows[panel];
        for (index j = 0; j < rows; ++j) {
            a_rows_[j] = packed_a_ + j;
            out_rows[j] = out + j * columns;
        }
        const T* b = packed_b_;
        for (index group = 0; group < shape.groups(); ++group) {
            const index width = shape.width(group);
            multiply<T>({.a = a_rows_,
                         .depth = {pairs, 1, 0, panel},
                         .b = b,
                         .width = width,
                         .c = out_rows,
                         .c_offset = shape.begin(group),
                         .columns = shape.valid(group),
                         .accumulate = accumulate},
                        rows);
            b += pairs * width * panel;
        }
    }

    const BackwardPlan<C, T>& plan_;
    const BackwardArguments<T>& p_;
    const Sizes<C, T>& sizes_;
    T *packed_b_, *packed_a_;
    const T** a_rows_;
};

template <class C, class T> void backward(const BackwardArguments<T>& p) {
    auto plan = make_plan<BackwardPlan<C, T>>(p);
    plan.pack();
    const int threads = static_cast<int>(max(1, min(p.threads, p.layout.batch)));
    parallel(threads, [&](int thread) {
        const index begin = first_row(p.layout, thread, threads);
        const index end = thread + 1 == threads ? p.layout.batch : first_row(p.layout, thread + 1, threads);
        BackwardPass<C, T>(plan, begin, end).run();
    });
    const index items = WeightGradients<C, T>::items(plan.sizes);
    const index projected = p.d_weights.projection ? divide_up(p.output, panel_width<T>) : 0;
    const int sharers = static_cast<int>(max(1, min(p.threads, items)));
    parallel(sharers, [&](int thread) {
        WeightGradients<C, T> gradients(plan, thread);
        gradients.run(items * thread / sharers, items * (thread + 1) / sharers);
        if (projected) gradients.projection(projected * thread / sharers, projected * (thread + 1) / sharers);
    });
}

template <class C, class T> constexpr Kernel<T> kernel() {
    return {
        forward<C, T>, backward<C, T>,
        [](index rows, index hidden, index output) { return Sizes<C, T>{0, hidden, output}.reserve(rows); },
        C::gates, C::has_cell_state};
}

}  // namespace penstock::PENSTOCK_ISA
