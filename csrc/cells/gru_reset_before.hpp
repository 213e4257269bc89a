// GRU with the reset gate before the recurrent product. Equations: src/penstock/cells/gru_reset_before.py.
//
// The candidate's recurrent product takes r * h, so a step has two halves: the gates r and z, then, after
// the second product, the candidate n and the new state.
#pragma once

#include "cell.hpp"

namespace penstock::PENSTOCK_ISA {

struct GruResetBefore {
    static constexpr int slots = 3, gates = 3;  // n, r, z
    static constexpr int input_gate[] = {2, 0, 1}, recurrent_gate[] = {2, 0, 1};
    static constexpr Span input{0, 3}, recurrent{1, 2}, candidate{0, 1};
    static constexpr bool has_cell_state = false, carries_hidden = true, reset_before = true;

    template <class T> PENSTOCK_INLINE static void forward(const Forward<T>& s) {  // first half
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) {
            const Vec<T> r = sigmoid<T>(load(s.gates + at + panel));
            const Vec<T> z = sigmoid<T>(load(s.gates + at + 2 * panel));
            store(s.gates + at + panel, r);
            store(s.gates + at + 2 * panel, z);
            store(s.reset_hidden + at, r * load(s.h_prev + at));
        });
    }

    template <class T> PENSTOCK_INLINE static void forward_candidate(const Forward<T>& s) {  // second half
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) {
            const Vec<T> n = tanh<T>(load(s.gates + at)), z = load(s.gates + at + 2 * panel);
            store(s.gates + at, n);
            store(s.h + at, n + z * (load(s.h_prev + at) - n));
        });
    }

    template <class T> PENSTOCK_INLINE static void backward(const Backward<T>& s) {  // first half
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) {
            const Vec<T> n = load(s.gates + at), z = load(s.gates + at + 2 * panel);
            const Vec<T> h_prev = load(s.h_prev + at), d_h = load(s.d_h + at);
            store(s.d_gates + at, d_h * (T(1) - z) * tanh_slope<T>(n));
            store(s.d_gates + at + 2 * panel, d_h * (h_prev - n) * sigmoid_slope<T>(z));
            store(s.d_h + at, d_h * z);
            store(s.reset_hidden + at, load(s.gates + at + panel) * h_prev);
        });
    }

    template <class T> PENSTOCK_INLINE static void backward_reset(const Backward<T>& s) {  // second half
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) {
            const Vec<T> r = load(s.gates + at + panel), d_rh = load(s.d_reset_hidden + at);
            store(s.d_gates + at + panel, d_rh * load(s.h_prev + at) * sigmoid_slope<T>(r));
            store(s.d_h + at, load(s.d_h + at) + d_rh * r);
        });
    }
};

}  // namespace penstock::PENSTOCK_ISA
