// Who runs what. The time loop asks for threads once a pass and shares out rows itself.
#pragma once

#include <cstddef>

namespace penstock {

// Calls body(context, i) for i in [0, count), one thread each, and waits for all of them.
//
// Where the process already has an OpenMP runtime (torch brings one), its workers are used: a pool of our
// own beside it would fight for the cores with torch's workers, which spin for a while after each operator.
// Without one, and in a forked child (where OpenMP's workers are gone), plain threads are started.
void parallel(int count, void (*body)(void* context, int i), void* context);

template <class F> void parallel(int count, F f) {
    if (count <= 1) {
        f(0);
        return;
    }
    parallel(count, [](void* context, int i) { (*static_cast<F*>(context))(i); }, &f);
}

// Scratch memory of the calling thread, 64-byte aligned, kept from call to call and grown when needed: a
// fresh large allocation costs page faults that take as long as the arithmetic. Contents are undefined.
void* workspace(std::size_t bytes);

}  // namespace penstock
