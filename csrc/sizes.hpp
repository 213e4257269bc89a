// What every pass works out of its arguments: padded sizes, the order of the steps, who owns which rows,
// and where things lie in memory.
#pragma once

#include "cells/cell.hpp"
#include "gemm.hpp"
#include "kernels.hpp"
#include "threads.hpp"

namespace penstock::PENSTOCK_ISA {

constexpr index gradient_chunk = 1 << 17;  // values kept of a chunk before they are summed into the weights'
constexpr index folded_chunks = 32;        // chunks summed on their own where there are many more
constexpr index direct_rows = 16;         // up to so many pairs, packing the weights costs more than it saves
constexpr index share_of_work = 3 << 16;  // multiply-adds that are worth a thread that is awake
constexpr index worth_waking = 1 << 21;   // the same for one that may have to be woken
constexpr index share_of_step = 1 << 15;  // the same between two barriers
constexpr std::size_t cached_weights = 2 << 20;  // bytes of weights that fit a core's own cache

// Hands out slices of one block of memory, and nullptr once it is too small: then `used` tells the size that
// a second attempt needs.
class Arena {
  public:
    Arena(void* base, std::size_t capacity) : base_(static_cast<char*>(base)), capacity_(capacity) {}
    template <class U> U* take(index count) {
        const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(U), start = used_;
        used_ += (bytes + 63) / 64 * 64 + red_zone;
        if (!fits()) return nullptr;
        allow_access(base_ + start, bytes);
        return reinterpret_cast<U*>(base_ + start);
    }
    std::size_t used() const { return used_; }
    bool fits() const { return used_ <= capacity_; }

  private:
    char* base_;
    std::size_t capacity_, used_ = 0;
};

// Sizes of one call. `group` panels of units are computed together: four when a unit has one slot, two when
// not every product reaches all slots, so that tiles can take them in pairs.
template <class C, class T> struct Sizes {
    static constexpr index panel = panel_width<T>;
    static constexpr index group = C::slots == 1 ? max_width : C::recurrent.count < C::slots ? 2 : 1;
    static constexpr index unit_gates = C::slots * panel;  // the gates of a panel of units
    index input, hidden, output;
    index panels = divide_up(hidden, panel);
    index units = panels * panel;                      // H, padded
    index gates = units * C::slots;                    // one row of gates, padded
    index outputs = divide_up(output, panel) * panel;  // R, padded
    index cell_states = C::has_cell_state ? units : 0;

    index groups() const { return divide_up(panels, group); }
    index group_panels(index g) const { return min(group, panels - g * group); }
    index reserve(index rows) const {
        return rows * ((C::gate_is_state ? 0 : gates) + cell_states + outputs);
    }
    index work(index rows) const { return rows * gates * (input + output); }  // multiply-adds
    Columns<T> inputs() const { return {input}; }
    Columns<T> states() const { return {output}; }
};

// The gates of one step, group by group and row by row inside a group: what is computed together lies
// together. Where the gate is the state they are rows of states.
template <class C, class T, class Value = T> struct Gates {
    Value* data;
    index rows;
    index first;  // the row of the batch that comes first

    Value* group(const Sizes<C, T>& sizes, index g, index row) const {
        if constexpr (C::gate_is_state)
            return data + (row - first) * sizes.units + g * sizes.group * sizes.panel;
        return data + g * sizes.group * sizes.unit_gates * rows +
               (row - first) * sizes.group_panels(g) * sizes.unit_gates;
    }
    Value* panel(const Sizes<C, T>& sizes, index q, index row) const {
        const index g = q / sizes.group;
        return group(sizes, g, row) + (q - g * sizes.group) * sizes.unit_gates;
    }
};

// The rows of a step and a range of panels, in the order in which their gates lie in memory.
template <class C, class T> class Walk {
  public:
    struct Place { index row, panel; };

    Walk(index rows, index first, index last) : rows_(rows), last_(last), left_(rows * (last - first)) {
        enter(first);
    }
    index left() const { return left_; }
    Place next() {
        const Place here{row_, panel_};
        --left_;
        if (++panel_ == group_end_) {
            panel_ = group_begin_;
            if (++row_ == rows_) enter(group_end_);
        }
        return here;
    }

  private:
    void enter(index panel) {
        row_ = 0;
        group_begin_ = panel_ = panel;
        group_end_ = min((panel / Sizes<C, T>::group + 1) * Sizes<C, T>::group, last_);
    }
    index rows_, last_, left_, row_, panel_, group_begin_, group_end_;
};

// Gives a cell the blocks of a walk, some at a time to work on in turns: two, or four of a cell so small that
// the registers hold them.
template <class C, class T, class Block, class Cell>
PENSTOCK_INLINE void in_turns(Walk<C, T> walk, Block block, Cell cell) {
    if constexpr (C::slots == 1)
        while (walk.left() >= 4) {
            const decltype(block(walk.next())) four[] = {block(walk.next()), block(walk.next()),
                                                         block(walk.next()), block(walk.next())};
            cell(four);
        }
    while (walk.left() >= 2) {
        const decltype(block(walk.next())) two[] = {block(walk.next()), block(walk.next())};
        cell(two);
    }
    if (walk.left()) {
        const decltype(block(walk.next())) one[] = {block(walk.next())};
        cell(one);
    }
}

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

// How a team shares a layer. Threads that own rows of the batch never wait for one another. With too few
// rows for that, or weights too large for a core's cache, each owns units instead, and they meet at every
// step. Either way each value is computed by one thread in one order: results do not depend on it.
template <class C, class T>
bool shares_units(const Sizes<C, T>& sizes, const Layout& layout, bool projected, int threads) {
    if (threads == 1 || projected || sizes.groups() < threads) return false;
    const index weights = sizes.gates * sizes.outputs;
    if (layout.batch * weights < share_of_step * threads) return false;
    return layout.batch < 2 * tile_rows * threads || weights * sizeof(T) > cached_weights;
}

// `share`: multiply-adds that are worth a thread.
template <class C, class T>
int useful_threads(const Sizes<C, T>& sizes, const Layout& layout, bool projected, int threads, index share) {
    const int wanted = static_cast<int>(min(threads, max(1, sizes.work(layout.rows) / share)));
    return shares_units<C, T>(sizes, layout, projected, wanted)
               ? wanted
               : static_cast<int>(max(1, min(wanted, layout.batch)));
}

// Rows of the batch. Large batches go through a pass block by block, so that what a step leaves is still in
// the cache when the next one comes.
struct Rows {
    index begin, end;
    index count() const { return end - begin; }
    index running(index rows) const { return max(min(rows, end) - begin, 0); }
};
constexpr index block_rows = 256;
inline index blocks_of(index rows, index most) { return max(1, divide_up(rows, most)); }
inline Rows block_of(Rows rows, index block, index blocks) {
    return {rows.begin + rows.count() * block / blocks, rows.begin + rows.count() * (block + 1) / blocks};
}

// Bounds of the rows each thread owns: about equal numbers of (step, row) pairs.
inline index first_row(const Layout& layout, Rows rows, int thread, int threads) {
    if (thread == threads) return rows.end;
    index pairs = 0;
    for (index t = 0; t < layout.steps; ++t) pairs += rows.running(layout.active[t]);
    const index wanted = pairs * thread / threads;
    index row = rows.begin, before = 0;
    while (row < rows.end) {
        index length = 0;  // of this row: the steps at which more than `row` rows run (binary search)
        for (index bound = layout.steps; length < bound;) {
            const index middle = (length + bound) / 2;
            if (layout.active[middle] > row) length = middle + 1;
            else bound = middle;
        }
        if (before + length / 2 >= wanted) return row;
        before += length;
        ++row;
    }
    return row;
}

// What one thread of a team does of some rows: its own, together with `units`, the threads that share them.
struct Share {
    Rows rows;
    Team units;
};
template <class C, class T>
Share share_of(const Team& team, const Sizes<C, T>& sizes, const Layout& layout, Rows rows, bool projected) {
    if (shares_units<C, T>(sizes, layout, projected, team.threads)) return {rows, team};
    const index begin = first_row(layout, rows, team.thread, team.threads);
    return {{begin, first_row(layout, rows, team.thread + 1, team.threads)}, Team{}};
}

template <class T> PENSTOCK_INLINE void copy(T* to, const T* from, index count) {
    copy_padded(to, from, count, count);
}
template <class T> void zero(T* to, index count) {
    std::memset(to, 0, static_cast<std::size_t>(count) * sizeof(T));
}

// Initial states by sorted row, readable up to `padded` values: the caller's own where they are wide enough,
// one row of zeros where there are none.
template <class T> struct States {
    const T* rows;
    index stride;
    const index* position;  // nullptr: rows are sorted

    States(Arena& arena, const T* given, index count, index padded, const Layout& layout)
        : rows(given), stride(count), position(layout.state_position) {
        if (given && count == padded) return;
        T* copied = arena.take<T>(given ? layout.batch * padded : padded);
        if (copied && !given) zero(copied, padded);
        for (index b = 0; copied && given && b < layout.batch; ++b)
            copy_padded(copied + b * padded, given + position[b] * count, count, padded);
        rows = copied, stride = given ? padded : 0, position = nullptr;
    }
    const T* at(index row) const { return rows + (position ? position[row] : row) * stride; }
};

}  // namespace penstock::PENSTOCK_ISA
