// Compiled once for each instruction set, with PENSTOCK_ISA naming it.
#include "cells/gru.hpp"
#include "cells/gru_reset_before.hpp"
#include "cells/lstm.hpp"
#include "cells/rnn.hpp"
#include "recurrence.hpp"

namespace penstock::PENSTOCK_ISA {

#define PENSTOCK_STRING_(x) #x
#define PENSTOCK_STRING(x) PENSTOCK_STRING_(x)

#if defined(__AVX512BF16__)  // compiled for the sake of products of bfloat16: the rest is avx512's

const Kernels& kernels() {
    static const Kernels all = [] {
        Kernels k{PENSTOCK_STRING(PENSTOCK_ISA), {}, {}, {}};
        k.bf16[rnn_tanh] = kernel<Rnn<Tanh>, float, bf16>();
        k.bf16[rnn_relu] = kernel<Rnn<Relu>, float, bf16>();
        k.bf16[lstm] = kernel<Lstm<false>, float, bf16>();
        k.bf16[lstm_peephole] = kernel<Lstm<true>, float, bf16>();
        k.bf16[gru] = kernel<Gru, float, bf16>();
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

const Kernels& kernels() {
    static const Kernels all = [] {
        Kernels k{PENSTOCK_STRING(PENSTOCK_ISA), {}, {}, {}};
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
