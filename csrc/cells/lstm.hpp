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
    static constexpr bool gate_is_state = false;

    template <class T, int N> PENSTOCK_INLINE static void forward(const Forward<T> (&s)[N]) {
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) __attribute__((always_inline)) {
            Vec<T> i_f[2 * N], g[N], o[N], c[N], tanh_c[N];
            PENSTOCK_EACH {
                i_f[n] = load(s[n].gates + at), i_f[N + n] = load(s[n].gates + at + panel);
                g[n] = load(s[n].gates + at + 2 * panel), o[n] = load(s[n].gates + at + 3 * panel);
                c[n] = load(s[n].c_prev + at);
            }
            if constexpr (Peephole) PENSTOCK_EACH {
                    i_f[n] += load(s[n].peephole[0] + at) * c[n];
                    i_f[N + n] += load(s[n].peephole[1] + at) * c[n];
                }
            sigmoid<T>(i_f);
            tanh<T>(g);
            PENSTOCK_EACH tanh_c[n] = c[n] = i_f[N + n] * c[n] + i_f[n] * g[n];
            if constexpr (Peephole) PENSTOCK_EACH o[n] += load(s[n].peephole[2] + at) * c[n];
            sigmoid<T>(o);
            tanh<T>(tanh_c);
            PENSTOCK_EACH {
                store(s[n].gates + at, i_f[n]);
                store(s[n].gates + at + panel, i_f[N + n]);
                store(s[n].gates + at + 2 * panel, g[n]);
                store(s[n].gates + at + 3 * panel, o[n]);
                store(s[n].c + at, c[n]);
                store(s[n].h + at, o[n] * tanh_c[n]);
            }
        });
    }

    template <class T, int N> PENSTOCK_INLINE static void backward(const Backward<T> (&s)[N]) {
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) __attribute__((always_inline)) {
            Vec<T> tanh_c[N];
            PENSTOCK_EACH tanh_c[n] = load(s[n].c + at);
            tanh<T>(tanh_c);
            PENSTOCK_EACH backward_of(s[n], at, tanh_c[n], panel);
        });
    }

  private:
    template <class T>
    PENSTOCK_INLINE static void backward_of(const Backward<T>& s, index at, Vec<T> tanh_c, index panel) {
        const T* gate = s.gates + at;
        const Vec<T> i = load(gate), f = load(gate + panel), g = load(gate + 2 * panel);
        const Vec<T> o = load(gate + 3 * panel), c_prev = load(s.c_prev + at), d_h = load(s.d_h + at);
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
    }
};

}  // namespace penstock::PENSTOCK_ISA
