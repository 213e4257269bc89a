// GRU with the reset gate after the recurrent product. Equations: src/penstock/cells/gru.py.
//
// Four slots: n, r, z and m, the recurrent part of the candidate (m = W_hn h + b_hn), which the reset gate
// multiplies. The input product reaches n, r, z, the recurrent product r, z, m.
#pragma once

#include "cell.hpp"

namespace penstock::PENSTOCK_ISA {

struct Gru {
    static constexpr int slots = 4, gates = 3;
    static constexpr int input_gate[] = {2, 0, 1, -1}, recurrent_gate[] = {-1, 0, 1, 2};
    static constexpr Span input{0, 3}, recurrent{1, 3};
    static constexpr bool has_cell_state = false, carries_hidden = true, reset_before = false;

    template <class T> PENSTOCK_INLINE static void forward(const Forward<T>& s) {
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) {
            T* gate = s.gates + at;
            const Vec<T> r = sigmoid<T>(load(gate + panel)), z = sigmoid<T>(load(gate + 2 * panel));
            const Vec<T> n = tanh<T>(load(gate) + r * load(gate + 3 * panel));
            store(gate, n);
            store(gate + panel, r);
            store(gate + 2 * panel, z);
            store(s.h + at, n + z * (load(s.h_prev + at) - n));
        });
    }

    template <class T> PENSTOCK_INLINE static void backward(const Backward<T>& s) {
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) {
            const T* gate = s.gates + at;
            const Vec<T> n = load(gate), r = load(gate + panel), z = load(gate + 2 * panel);
            const Vec<T> m = load(gate + 3 * panel), d_h = load(s.d_h + at);
            const Vec<T> d_n = d_h * (T(1) - z) * tanh_slope<T>(n);
            store(s.d_gates + at, d_n);
            store(s.d_gates + at + panel, d_n * m * sigmoid_slope<T>(r));
            store(s.d_gates + at + 2 * panel, d_h * (load(s.h_prev + at) - n) * sigmoid_slope<T>(z));
            store(s.d_gates + at + 3 * panel, d_n * r);
            store(s.d_h + at, d_h * z);
        });
    }
};

}  // namespace penstock::PENSTOCK_ISA
