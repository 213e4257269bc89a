// Elman network. Equations and their derivation: src/penstock/cells/rnn.py.
#pragma once

#include "cell.hpp"

namespace penstock::PENSTOCK_ISA {

struct Tanh {
    template <class T> PENSTOCK_INLINE static Vec<T> value(Vec<T> a) { return tanh<T>(a); }
    template <class T> PENSTOCK_INLINE static Vec<T> slope(Vec<T> h) { return tanh_slope<T>(h); }
};
struct Relu {
    template <class T> PENSTOCK_INLINE static Vec<T> value(Vec<T> a) { return relu<T>(a); }
    template <class T> PENSTOCK_INLINE static Vec<T> slope(Vec<T> h) {
        return h > T(0) ? broadcast(T(1)) : Vec<T>{};
    }
};

template <class Activation> struct Rnn {
    static constexpr int slots = 1, gates = 1;
    static constexpr int input_gate[] = {0}, recurrent_gate[] = {0};
    static constexpr Span input{0, 1}, recurrent{0, 1};
    static constexpr bool has_cell_state = false, carries_hidden = false, reset_before = false;

    template <class T> PENSTOCK_INLINE static void forward(const Forward<T>& s) {
        each_vector<T>([&](index at) {
            const Vec<T> h = Activation::template value<T>(load(s.gates + at));
            store(s.gates + at, h);
            store(s.h + at, h);
        });
    }

    template <class T> PENSTOCK_INLINE static void backward(const Backward<T>& s) {
        each_vector<T>([&](index at) {
            const Vec<T> h = load(s.gates + at);
            store(s.d_gates + at, load(s.d_h + at) * Activation::template slope<T>(h));
        });
    }
};

}  // namespace penstock::PENSTOCK_ISA
