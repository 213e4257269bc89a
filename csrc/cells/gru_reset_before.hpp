// GRU with the reset gate before the recurrent product. Equations: src/penstock/cells/gru_reset_before.py.
//
// The candidate's recurrent product takes r * h, so a step has two halves: the gates r and z, then, after
// the second product, the candidate n (here `c`) and the new state.
#pragma once

#include "cell.hpp"

namespace penstock::PENSTOCK_ISA {

struct GruResetBefore {
    static constexpr int slots = 3, gates = 3;  // n, r, z
    static constexpr int input_gate[] = {2, 0, 1}, recurrent_gate[] = {2, 0, 1};
    static constexpr Span input{0, 3}, recurrent{1, 2}, candidate{0, 1};
    static constexpr bool has_cell_state = false, carries_hidden = true, reset_before = true;
    static constexpr bool gate_is_state = false;

    template <class T, int N> PENSTOCK_INLINE static void forward(const Forward<T> (&s)[N]) {  // first half
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) __attribute__((always_inline)) {
            Vec<T> r_z[2 * N];
            PENSTOCK_EACH {
                r_z[n] = load(s[n].gates + at + panel), r_z[N + n] = load(s[n].gates + at + 2 * panel);
            }
            sigmoid<T>(r_z);
            PENSTOCK_EACH {
                store(s[n].gates + at + panel, r_z[n]);
                store(s[n].gates + at + 2 * panel, r_z[N + n]);
                store(s[n].reset_hidden + at, r_z[n] * load(s[n].h_prev + at));
            }
        });
    }

    template <class T, int N>
    PENSTOCK_INLINE static void forward_candidate(const Forward<T> (&s)[N]) {  // second half
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) __attribute__((always_inline)) {
            Vec<T> c[N];
            PENSTOCK_EACH c[n] = load(s[n].gates + at);
            tanh<T>(c);
            PENSTOCK_EACH {
                const Vec<T> z = load(s[n].gates + at + 2 * panel);
                store(s[n].gates + at, c[n]);
                store(s[n].h + at, c[n] + z * (load(s[n].h_prev + at) - c[n]));
            }
        });
    }

    template <class T, int N> PENSTOCK_INLINE static void backward(const Backward<T> (&s)[N]) {  // first half
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) __attribute__((always_inline)) {
            PENSTOCK_EACH {
                const Vec<T> c = load(s[n].gates + at), z = load(s[n].gates + at + 2 * panel);
                const Vec<T> h_prev = load(s[n].h_prev + at), d_h = load(s[n].d_h + at);
                store(s[n].d_gates + at, d_h * (T(1) - z) * tanh_slope<T>(c));
                store(s[n].d_gates + at + 2 * panel, d_h * (h_prev - c) * sigmoid_slope<T>(z));
                store(s[n].d_h + at, d_h * z);
                store(s[n].reset_hidden + at, load(s[n].gates + at + panel) * h_prev);
            }
        });
    }

    template <class T, int N>
    PENSTOCK_INLINE static void backward_reset(const Backward<T> (&s)[N]) {  // second half
        constexpr index panel = panel_width<T>;
        each_vector<T>([&](index at) __attribute__((always_inline)) {
            PENSTOCK_EACH {
                const Vec<T> r = load(s[n].gates + at + panel), d_rh = load(s[n].d_reset_hidden + at);
                store(s[n].d_gates + at + panel, d_rh * load(s[n].h_prev + at) * sigmoid_slope<T>(r));
                store(s[n].d_h + at, load(s[n].d_h + at) + d_rh * r);
            }
        });
    }
};

}  // namespace penstock::PENSTOCK_ISA
