// Elman network. Equations and their derivation: src/penstock/cells/rnn.py.
#pragma once

#include "cell.hpp"

namespace penstock::PENSTOCK_ISA {

struct Tanh {
    template <class T, int N> PENSTOCK_INLINE static void value(Vec<T> (&a)[N]) { tanh<T>(a); }
    template <class T> PENSTOCK_INLINE static Vec<T> slope(Vec<T> h) { return tanh_slope<T>(h); }
};
struct Relu {
    template <class T, int N> PENSTOCK_INLINE static void value(Vec<T> (&a)[N]) { relu<T>(a); }
    template <class T> PENSTOCK_INLINE static Vec<T> slope(Vec<T> h) {
        return h > T(0) ? broadcast(T(1)) : Vec<T>{};
    }
};

template <class Activation> struct Rnn {
    static constexpr int slots = 1, gates = 1;
    static constexpr int input_gate[] = {0}, recurrent_gate[] = {0};
    static constexpr Span input{0, 1}, recurrent{0, 1};
    static constexpr bool has_cell_state = false, carries_hidden = false, reset_before = false;
    static constexpr bool gate_is_state = true;

    template <class T, int N> PENSTOCK_INLINE static void forward(const Forward<T> (&s)[N]) {
        each_vector<T>([&](index at) __attribute__((always_inline)) {
            Vec<T> h[N];
            PENSTOCK_EACH h[n] = load(s[n].gates + at);
            Activation::template value<T>(h);
            PENSTOCK_EACH store(s[n].h + at, h[n]);
        });
    }

    template <class T, int N> PENSTOCK_INLINE static void backward(const Backward<T> (&s)[N]) {
        each_vector<T>([&](index at) __attribute__((always_inline)) {
            PENSTOCK_EACH {
                const Vec<T> h = load(s[n].gates + at);
                store(s[n].d_gates + at, load(s[n].d_h + at) * Activation::template slope<T>(h));
            }
        });
    }
};

}  // namespace penstock::PENSTOCK_ISA
