// GRU with the reset gate after the recurrent product. Equations: src/penstock/cells/gru.py.
//
// Four slots: n (the candidate, here `c`), r, z and m, the recurrent part of the candidate (m = W_hn h +
// b_hn), which the reset gate multiplies. The input product reaches n, r, z, the recurrent product r, z, m.
#pragma once

#include "cell.hpp"

namespace penstock::PENSTOCK_ISA {

struct Gru {
    static constexpr int slots = 4, gates = 3;
    static constexpr int input_gate[] = {2, 0, 1, -1}, recurrent_gate[] = {-1, 0, 1, 2};
    static constexpr Span input{0, 3}, recurrent{1, 3};
    static constexpr bool has_cell_state = false, carries_hidden = true, reset_before = false;
    static constexpr bool gate_is_state = false;

    template <class T, int N> PENSTOCK_INLINE static void forward(const Forward<T> (&s)[N]) {
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) __attribute__((always_inline)) {
            Vec<T> r_z[2 * N], c[N];
            PENSTOCK_EACH {
                r_z[n] = load(s[n].gates + at + panel), r_z[N + n] = load(s[n].gates + at + 2 * panel);
            }
            sigmoid<T>(r_z);
            PENSTOCK_EACH c[n] = load(s[n].gates + at) + r_z[n] * load(s[n].gates + at + 3 * panel);
            tanh<T>(c);
            PENSTOCK_EACH {
                store(s[n].gates + at, c[n]);
                store(s[n].gates + at + panel, r_z[n]);
                store(s[n].gates + at + 2 * panel, r_z[N + n]);
                store(s[n].h + at, c[n] + r_z[N + n] * (load(s[n].h_prev + at) - c[n]));
            }
        });
    }

    template <class T, int N> PENSTOCK_INLINE static void backward(const Backward<T> (&s)[N]) {
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) __attribute__((always_inline)) {
            PENSTOCK_EACH {
                const T* gate = s[n].gates + at;
                const Vec<T> c = load(gate), r = load(gate + panel), z = load(gate + 2 * panel);
                const Vec<T> m = load(gate + 3 * panel), d_h = load(s[n].d_h + at);
                const Vec<T> d_n = d_h * (T(1) - z) * tanh_slope<T>(c);
                store(s[n].d_gates + at, d_n);
                store(s[n].d_gates + at + panel, d_n * m * sigmoid_slope<T>(r));
                store(s[n].d_gates + at + 2 * panel,
                      d_h * (load(s[n].h_prev + at) - c) * sigmoid_slope<T>(z));
                store(s[n].d_gates + at + 3 * panel, d_n * r);
                store(s[n].d_h + at, d_h * z);
            }
        });
    }
};

}  // namespace penstock::PENSTOCK_ISA
