// Compiled once for each instruction set, with PENSTOCK_ISA naming it.
#include "cells/gru.hpp"
#include "cells/gru_reset_before.hpp"
#include "cells/lstm.hpp"
#include "cells/rnn.hpp"
#include "recurrence.hpp"

namespace penstock::PENSTOCK_ISA {

#define PENSTOCK_STRING_(x) #x
#define PENSTOCK_STRING(x) PENSTOCK_STRING_(x)

template <class T> struct Table {
    static constexpr Kernel<T> kernels[cells] = {
        kernel<Rnn<Tanh>, T>(),  kernel<Rnn<Relu>, T>(), kernel<Lstm<false>, T>(),
        kernel<Lstm<true>, T>(), kernel<Gru, T>(),       kernel<GruResetBefore, T>(),
    };
};

const Kernels& kernels() {
    static const Kernels all = [] {
        Kernels k{PENSTOCK_STRING(PENSTOCK_ISA), {}, {}};
        for (int cell = 0; cell < cells; ++cell) {
            k.f32[cell] = Table<float>::kernels[cell];
            k.f64[cell] = Table<double>::kernels[cell];
        }
        return k;
    }();
    return all;
}

}  // namespace penstock::PENSTOCK_ISA
