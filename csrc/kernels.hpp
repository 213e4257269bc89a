// What the kernels of every instruction set are called with: plain structs of raw pointers.
//
// One call is one layer, with one struct of arguments for each of its directions. T time steps, B batch rows,
// D input size, H hidden size, R output size (the projected size, or H), G gates.
#pragma once

#include <cstddef>
#include <cstdint>

namespace penstock {

using index = std::int64_t;

// Which rows run at which step. Rows are sorted by falling length, so the rows running at step t are
// the first active[t]; active never rises with t.
struct Layout {
    index steps, batch;
    index rows;                   // sum of active: the (step, row) pairs that run
    const index* active;          // [steps]
    const index* offset;          // [steps] pairs before step t
    const index* step_position;   // [steps] where step t lies in the caller's sequences, in step strides
    const index* row_position;    // [batch] where sorted row b lies there, in row strides
    const index* state_position;  // [batch] the caller's row in h0, c0, h_n, c_n
    bool zero_padding;            // the caller's outputs have places beyond a length: they are zeroed
};

// A sequence of the caller's: value (t, b, j) lies at data[step_position[t] * step_stride +
// row_position[b] * row_stride + j]. data == nullptr: not given, or not wanted.
template <class T> struct Sequence {
    T* data = nullptr;
    index step_stride = 0, row_stride = 0;

    // Forced inline: compiled for several instruction sets, it must never become one symbol of them all.
    __attribute__((always_inline)) inline T* at(const Layout& layout, index step, index row) const {
        return data + layout.step_position[step] * step_stride + layout.row_position[row] * row_stride;
    }
};

// A bfloat16 number: the upper half of a float.
struct bf16 { std::uint16_t bits; };

// Contiguous, in torch's shapes and gate order; a missing one is nullptr. Gradients have the same form.
// P: what the products multiply, T itself or bf16; all else is T.
template <class T, class P = T> struct Weights {
    P* ih = nullptr;          // (G*H, D)
    P* hh = nullptr;          // (G*H, R)
    T* bias_ih = nullptr;     // (G*H)
    T* bias_hh = nullptr;     // (G*H)
    T* projection = nullptr;  // (R, H)
    T* peephole = nullptr;    // (3*H): input, forget, output
};

// `reserve` keeps gates, cell states and outputs of every step from forward to backward; its layout is the
// same for every instruction set and is nobody else's business. It has reserve_size() values.
template <class T, class P = T> struct ForwardArguments {
    index input, hidden, output;
    bool reverse;
    int threads;
    Layout layout;
    Weights<const T, const P> weights;
    Sequence<const T> x;
    const T *h0 = nullptr, *c0 = nullptr;  // (B, R), (B, H); nullptr: zeros
    Sequence<T> y;                         // out
    T *h_n = nullptr, *c_n = nullptr;      // (B, R), (B, H) out; c_n nullptr for cells without one
    Sequence<T> cell_states;               // (T, B, H) out, or not wanted
    T* reserve = nullptr;                  // out, or nullptr when no backward will follow
};

template <class T, class P = T> struct BackwardArguments {
    index input, hidden, output;
    bool reverse;
    int threads;
    Layout layout;
    Weights<const T, const P> weights;
    Sequence<const T> x;
    const T *h0 = nullptr, *c0 = nullptr;
    const T* reserve = nullptr;
    Sequence<const T> d_y, d_cell_states;        // gradients in; not given: zeros
    const T *d_h_n = nullptr, *d_c_n = nullptr;  // gradients in; nullptr: zeros
    Sequence<T> d_x;                             // gradients out; not wanted: nullptr
    bool add_to_d_x = false;                     // the second direction adds to the first one's
    T *d_h0 = nullptr, *d_c0 = nullptr;
    Weights<T> d_weights;
};

template <class T, class P = T> struct Kernel {
    // One direction, or the two of a layer, which must agree in their sizes and layout.
    void (*forward)(const ForwardArguments<T, P>* directions, int count);
    void (*backward)(const BackwardArguments<T, P>* directions, int count);
    index (*reserve_size)(index rows, index hidden, index output);
    index (*gates_alone)(bool backwards, index rounds);  // peak.hpp
    int gates;
    bool has_cell_state;
};

// y[i] = f(x[i]), as the cells compute it.
template <class T> struct Activations {
    void (*sigmoid)(const T* x, T* y, index count);
    void (*tanh)(const T* x, T* y, index count);
};

enum Cell { rnn_tanh, rnn_relu, lstm, lstm_peephole, gru, gru_reset_before, cells };

struct Kernels {
    const char* name;
    Kernel<float> f32[cells];
    Kernel<float, bf16> f32_by_bf16[cells];  // with products of bfloat16; a cell without them has nullptr
    Kernel<double> f64[cells];
    Activations<float> f32_activations;
    Activations<double> f64_activations;
    void (*widen)(const bf16* from, float* to, index count);
    void (*round)(const float* from, bf16* to, index count);  // to nearest, ties to even
    index (*multiply_adds)(index rounds);                     // returns the floating-point operations done
    std::size_t (*product)(void* memory, std::size_t bytes, index rows, index depth, index columns,
                           index times);               // of float32, alone: peak.hpp
    void (*read_all)(const float* from, index count);  // a multiple of 1,024 numbers
};

}  // namespace penstock
