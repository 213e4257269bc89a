// What every cell tells the time loop, and what it is given: one row's panel of units at one step, or
// several such blocks to work on in turns.
//
// The gates of a panel of units lie side by side in *slots* of panel_width values. A cell names, for each
// slot, the gate (row block of the torch weight matrices) that the input product and the recurrent product
// add to it; -1 where a product does not reach the slot. The slots a product reaches are contiguous.
//
//   static constexpr int slots;                    values kept for each unit
//   static constexpr int gates;                    G, row blocks of weight_ih and weight_hh
//   static constexpr int input_gate[slots], recurrent_gate[slots];
//   static constexpr Span input, recurrent;        slots reached by the two products
//   static constexpr bool has_cell_state;          keeps c beside h
//   static constexpr bool carries_hidden;          h' depends on h directly, not only through the gates
//   static constexpr bool gate_is_state;           the one slot is the new h: it is kept once
//   static constexpr bool reset_before;            `candidate` slots take (r * h) through a second product
//   static void forward(const Forward<T> (&)[N]);    pre-activations -> gates, new state
//   static void backward(const Backward<T> (&)[N]);  gradient of the new state -> of the pre-activations
#pragma once

#include "../activations.hpp"

namespace penstock::PENSTOCK_ISA {

struct Span { int begin, count; };

template <class T> struct Forward {
    T* gates;              // slots x panel: pre-activations in, gates out
    const T* h_prev;       // panel (has no meaning for a projected LSTM, which does not read it)
    const T* c_prev;       // panel, or nullptr
    T* h;                  // panel, out; may not alias h_prev (gate_is_state: may be gates)
    T* c;                  // panel, out, or nullptr; may be c_prev
    T* reset_hidden;       // panel: r * h_prev, out, for cells with reset_before
    const T* peephole[3];  // input, forget, output: a panel each, or nullptr
};

template <class T> struct Backward {
    const T* gates;   // slots x panel, as forward left them
    T* d_gates;       // slots x panel, out: gradient of the pre-activations
    const T* h_prev;  // panel
    const T* c_prev;  // panel, or nullptr
    const T* c;       // panel, or nullptr
    T* d_h;           // panel: gradient of the new h; out: its direct part for h_prev (carries_hidden)
    T* d_c;           // panel: gradient of the new c in, of c_prev out
    T* h;             // panel, out: the h of forward again, or nullptr when not wanted
    T* reset_hidden;  // panel, out (reset_before): r * h_prev
    const T* d_reset_hidden;  // panel (reset_before, second half): gradient of r * h_prev
    const T* peephole[3];
};

// Calls f(offset) for each vector of a panel.
template <class T, class F> PENSTOCK_INLINE void each_vector(F f) {
    for (index part = 0; part < panel_parts<T>; ++part) f(part * Simd<T>::lanes);
}

}  // namespace penstock::PENSTOCK_ISA
