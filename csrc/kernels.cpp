// Compiled once for each instruction set, with PENSTOCK_ISA naming it.
#include <bit>

#include "cells/gru.hpp"
#include "cells/gru_reset_before.hpp"
#include "cells/lstm.hpp"
#include "cells/rnn.hpp"
#include "recurrence.hpp"

namespace penstock::avx512 {
const Kernels& kernels();
}

namespace penstock::PENSTOCK_ISA {

#define PENSTOCK_STRING_(x) #x
#define PENSTOCK_STRING(x) PENSTOCK_STRING_(x)

#if defined(__AVX512BF16__)  // compiled for the sake of products of bfloat16: the rest is avx512's

#if defined(__AMX_BF16__)
// Products of float32 numbers by tiles. A call that meets an infinity, which has no parts, begins again
// without them.
template <class C, Cell cell> constexpr Kernel<float> split_kernel() {
    Kernel<float> k = kernel<C, float, Split>();
    k.forward = [](const ForwardArguments<float>* directions, int count) {
        const ForwardArguments<float>& p = directions[0];
        const Sizes<C, float> sizes{p.input, p.hidden, p.output};
        if (!rounds_steps<Split>(sizes, p.layout) || !forward<C, float, Split>(directions, count))
            avx512::kernels().f32[cell].forward(directions, count);
    };
    k.backward = [](const BackwardArguments<float>* directions, int count) {
        if (!backward<C, float, Split>(directions, count))
            avx512::kernels().f32[cell].backward(directions, count);
    };
    return k;
}
#endif

const Kernels& kernels() {
    static const Kernels all = [] {
        Kernels k{};
        k.name = PENSTOCK_STRING(PENSTOCK_ISA);
        k.f32_by_bf16[rnn_tanh] = kernel<Rnn<Tanh>, float, Rounded>();
        k.f32_by_bf16[rnn_relu] = kernel<Rnn<Relu>, float, Rounded>();
        k.f32_by_bf16[lstm] = kernel<Lstm<false>, float, Rounded>();
        k.f32_by_bf16[lstm_peephole] = kernel<Lstm<true>, float, Rounded>();
        k.f32_by_bf16[gru] = kernel<Gru, float, Rounded>();
        k.f32_by_bf16[gru_reset_before] = kernel<GruResetBefore, float, Rounded>();
#if defined(__AMX_BF16__)
        k.f32[rnn_tanh] = split_kernel<Rnn<Tanh>, rnn_tanh>();
        k.f32[rnn_relu] = split_kernel<Rnn<Relu>, rnn_relu>();
        k.f32[lstm] = split_kernel<Lstm<false>, lstm>();
        k.f32[lstm_peephole] = split_kernel<Lstm<true>, lstm_peephole>();
        k.f32[gru] = split_kernel<Gru, gru>();
        k.f32[gru_reset_before] = split_kernel<GruResetBefore, gru_reset_before>();
        k.product = product_alone<Split>;
#endif
        return k;
    }();
    return all;
}

#else

template <class T> struct Table {
    static constexpr Kernel<T> kernels[cells] = {
        kernel<Rnn<Tanh>, T>(),  kernel<Rnn<Relu>, T>(), kernel<Lstm<false>, T>(),
        kernel<Lstm<true>, T>(), kernel<Gru, T>(),       kernel<GruResetBefore, T>(),
    };
};

// A whole array through an activation, a vector at a time.
template <class T, void activation(Vec<T> (&)[1])> void apply(const T* x, T* y, index count) {
    for (index at = 0; at < count; at += Simd<T>::lanes) {
        const index valid = min(Simd<T>::lanes, count - at);
        Vec<T> v[] = {load_partial(x + at, valid)};
        activation(v);
        for (index j = 0; j < valid; ++j) y[at + j] = v[0][j];
    }
}

template <class T> constexpr Activations<T> activations() {
    return {apply<T, sigmoid<T, 1>>, apply<T, tanh<T, 1>>};
}

void widen(const bf16* from, float* to, index count) {
    for (index j = 0; j < count; ++j) to[j] = std::bit_cast<float>(std::uint32_t{from[j].bits} << 16);
}
void round(const float* from, bf16* to, index count) {
    for (index j = 0; j < count; ++j) {
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(from[j]);
        const std::uint32_t nearest = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
        to[j].bits = static_cast<std::uint16_t>((from[j] == from[j] ? nearest : quiet) >> 16);
    }
}

const Kernels& kernels() {
    static const Kernels all = [] {
        Kernels k{};
        k.name = PENSTOCK_STRING(PENSTOCK_ISA);
        k.widen = widen;
        k.round = round;
        k.f32_activations = activations<float>();
        k.f64_activations = activations<double>();
        k.multiply_adds = multiply_adds;
        k.product = product_alone<Exact<float>>;
        k.read_all = read_all;
        for (int cell = 0; cell < cells; ++cell) {
            k.f32[cell] = Table<float>::kernels[cell];
            k.f64[cell] = Table<double>::kernels[cell];
        }
        return k;
    }();
    return all;
}

#endif

}  // namespace penstock::PENSTOCK_ISA
