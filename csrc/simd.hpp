// One vector type for each instruction set.
//
// The same sources are compiled once for each instruction set (see CMakeLists.txt); PENSTOCK_ISA names the
// one at hand and is also the name of the namespace everything lives in, so that the linker can never merge
// a function compiled for AVX-512 with its baseline namesake. For the same reason nothing here calls a
// template of the standard library.
//
// A *panel* is 64 bytes of units side by side (16 floats, 8 doubles), whatever the instruction set: memory
// laid out by one is read by all. A panel is `parts` vectors wide.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#define PENSTOCK_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define PENSTOCK_VECTOR_BYTES 32
#else  // SSE2, NEON
#define PENSTOCK_VECTOR_BYTES 16
#endif

#define PENSTOCK_INLINE inline __attribute__((always_inline))

namespace penstock::PENSTOCK_ISA {

using index = std::int64_t;

template <class T> struct Integer;
template <> struct Integer<float> { using type = std::int32_t; };
template <> struct Integer<double> { using type = std::int64_t; };

template <class T> struct Simd {
    using integer = typename Integer<T>::type;
    typedef T vector __attribute__((vector_size(PENSTOCK_VECTOR_BYTES)));
    typedef integer integers __attribute__((vector_size(PENSTOCK_VECTOR_BYTES)));
    static constexpr index lanes = PENSTOCK_VECTOR_BYTES / sizeof(T);
};
template <class T> using Vec = typename Simd<T>::vector;
template <class T> using IntVec = typename Simd<T>::integers;

template <class T> constexpr index panel_width = 64 / sizeof(T);                   // units in a panel
template <class T> constexpr index panel_parts = panel_width<T> / Simd<T>::lanes;  // vectors in a panel

template <class T> PENSTOCK_INLINE Vec<T> load(const T* p) {
    Vec<T> v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <class T> PENSTOCK_INLINE void store(T* p, Vec<T> v) { std::memcpy(p, &v, sizeof v); }
template <class T> PENSTOCK_INLINE Vec<T> broadcast(T value) { return Vec<T>{} + value; }

PENSTOCK_INLINE index min(index a, index b) { return a < b ? a : b; }
PENSTOCK_INLINE index max(index a, index b) { return a > b ? a : b; }
PENSTOCK_INLINE index divide_up(index a, index b) { return (a + b - 1) / b; }

}  // namespace penstock::PENSTOCK_ISA
