// LSTM, with or without peepholes. Equations and their derivation: src/penstock/cells/lstm.py.
// The projection is the time loop's (recurrence.hpp): here h is always o * tanh(c).
#pragma once

#include "cell.hpp"

namespace penstock::PENSTOCK_ISA {

template <bool Peephole> struct Lstm {
    static constexpr int slots = 4, gates = 4;  // i, f, g, o
    static constexpr int input_gate[] = {0, 1, 2, 3}, recurrent_gate[] = {0, 1, 2, 3};
    static constexpr Span input{0, 4}, recurrent{0, 4};
    static constexpr bool has_cell_state = true, carries_hidden = false, reset_before = false;

    template <class T> PENSTOCK_INLINE static void forward(const Forward<T>& s) {
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) {
            T* gate = s.gates + at;
            const Vec<T> c_prev = load(s.c_prev + at);
            Vec<T> a_i = load(gate), a_f = load(gate + panel), a_o = load(gate + 3 * panel);
            if constexpr (Peephole) {
                a_i += load(s.peephole[0] + at) * c_prev;
                a_f += load(s.peephole[1] + at) * c_prev;
            }
            const Vec<T> i = sigmoid<T>(a_i), f = sigmoid<T>(a_f), g = tanh<T>(load(gate + 2 * panel));
            const Vec<T> c = f * c_prev + i * g;
            if constexpr (Peephole) a_o += load(s.peephole[2] + at) * c;
            const Vec<T> o = sigmoid<T>(a_o);
            store(gate, i);
            store(gate + panel, f);
            store(gate + 2 * panel, g);
            store(gate + 3 * panel, o);
            store(s.c + at, c);
            store(s.h + at, o * tanh<T>(c));
        });
    }

    template <class T> PENSTOCK_INLINE static void backward(const Backward<T>& s) {
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) {
            const T* gate = s.gates + at;
            const Vec<T> i = load(gate), f = load(gate + panel), g = load(gate + 2 * panel);
            const Vec<T> o = load(gate + 3 * panel);
            const Vec<T> c_prev = load(s.c_prev + at), tanh_c = tanh<T>(load(s.c + at));
            const Vec<T> d_h = load(s.d_h + at);
            const Vec<T> d_o = d_h * tanh_c * sigmoid_slope<T>(o);
            Vec<T> d_c = load(s.d_c + at) + d_h * o * tanh_slope<T>(tanh_c);
            if constexpr (Peephole) d_c += d_o * load(s.peephole[2] + at);
            const Vec<T> d_i = d_c * g * sigmoid_slope<T>(i);
            const Vec<T> d_f = d_c * c_prev * sigmoid_slope<T>(f);
            const Vec<T> d_g = d_c * i * tanh_slope<T>(g);
            d_c *= f;
            if constexpr (Peephole) d_c += d_i * load(s.peephole[0] + at) + d_f * load(s.peephole[1] + at);
            store(s.d_gates + at, d_i);
            store(s.d_gates + at + panel, d_f);
            store(s.d_gates + at + 2 * panel, d_g);
            store(s.d_gates + at + 3 * panel, d_o);
            store(s.d_c + at, d_c);
            if (s.h) store(s.h + at, o * tanh_c);
        });
    }
};

}  // namespace penstock::PENSTOCK_ISA
