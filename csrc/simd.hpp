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
#include <utility>  // std::integer_sequence: types only

#if defined(__AVX2__)
#include <immintrin.h>
#endif

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
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr index vector_registers = 32;
#else
constexpr index vector_registers = 16;
#endif

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
// value - 0 is value, whatever its sign: one broadcasting load. (value + 0 would have to turn -0 into 0.)
template <class T> PENSTOCK_INLINE Vec<T> broadcast(T value) { return value - Vec<T>{}; }

#if defined(__AVX512F__)
template <class T> PENSTOCK_INLINE unsigned first_lanes(index count) {
    return count >= Simd<T>::lanes ? ~0u : (1u << (count > 0 ? count : 0)) - 1;
}
#elif defined(__AVX2__)
template <class T> PENSTOCK_INLINE __m256i first_lanes(index count) {
    const IntVec<T> all = IntVec<T>{} + static_cast<typename Simd<T>::integer>(count);
    if constexpr (sizeof(T) == 4) return (__m256i)(all > IntVec<T>{0, 1, 2, 3, 4, 5, 6, 7});
    else return (__m256i)(all > IntVec<T>{0, 1, 2, 3});
}
#endif

// The first `count` values, zeros after them.
template <class T> PENSTOCK_INLINE Vec<T> load_partial(const T* p, index count) {
#if defined(__AVX512F__)
    const unsigned mask = first_lanes<T>(count);
    if constexpr (sizeof(T) == 4) return (Vec<T>)_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), p);
    else return (Vec<T>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), p);
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) return (Vec<T>)_mm256_maskload_ps(p, first_lanes<T>(count));
    else return (Vec<T>)_mm256_maskload_pd(p, first_lanes<T>(count));
#else
    T edge[Simd<T>::lanes] = {};
    for (index j = 0; j < count && j < Simd<T>::lanes; ++j) edge[j] = p[j];
    return load(edge);
#endif
}

// The first `count` lanes only.
template <class T> PENSTOCK_INLINE void store_partial(T* p, Vec<T> v, index count) {
#if defined(__AVX512F__)
    const unsigned mask = first_lanes<T>(count);
    if constexpr (sizeof(T) == 4) _mm512_mask_storeu_ps(p, static_cast<__mmask16>(mask), (__m512)v);
    else _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask), (__m512d)v);
#else
    // Not by AVX2's masked store, which some processors take long for.
    if (count >= Simd<T>::lanes) return store(p, v);
    T edge[Simd<T>::lanes];
    store(edge, v);
    for (index j = 0; j < count; ++j) p[j] = edge[j];
#endif
}

// The halves of two vectors, lane by lane in turns: a0 b0 a1 b1 ...
template <class T> struct Interleaved { Vec<T> low, high; };
template <class T, int... J>
PENSTOCK_INLINE Interleaved<T> interleave(Vec<T> a, Vec<T> b, std::integer_sequence<int, J...>) {
    constexpr int lanes = sizeof...(J);
#if defined(__clang__)
    return {__builtin_shufflevector(a, b, (J % 2 * lanes + J / 2)...),
            __builtin_shufflevector(a, b, (J % 2 * lanes + (J + lanes) / 2)...)};
#else
    return {__builtin_shuffle(a, b, IntVec<T>{(J % 2 * lanes + J / 2)...}),
            __builtin_shuffle(a, b, IntVec<T>{(J % 2 * lanes + (J + lanes) / 2)...})};
#endif
}
template <class T> PENSTOCK_INLINE Interleaved<T> interleave(Vec<T> a, Vec<T> b) {
    return interleave<T>(a, b, std::make_integer_sequence<int, int(Simd<T>::lanes)>{});
}

// Square blocks of vectors: rows become columns.
template <class T> PENSTOCK_INLINE void transpose(Vec<T>* v) {
    constexpr index lanes = Simd<T>::lanes;
    Vec<T> w[lanes];
#pragma GCC unroll 4
    for (index round = 1; round < lanes; round *= 2) {
#pragma GCC unroll 8
        for (index i = 0; i < lanes / 2; ++i) {
            const Interleaved<T> pair = interleave<T>(v[i], v[i + lanes / 2]);
            w[2 * i] = pair.low, w[2 * i + 1] = pair.high;
        }
#pragma GCC unroll 16
        for (index i = 0; i < lanes; ++i) v[i] = w[i];
    }
}

// The sums of the lanes of each of `lanes` vectors, side by side.
template <class T> PENSTOCK_INLINE Vec<T> sums(Vec<T>* v) {
#pragma GCC unroll 4
    for (index half = Simd<T>::lanes / 2; half >= 1; half /= 2)
#pragma GCC unroll 8
        for (index i = 0; i < half; ++i) {
            const Interleaved<T> pair = interleave<T>(v[i], v[i + half]);
            v[i] = pair.low + pair.high;
        }
    return v[0];
}

PENSTOCK_INLINE index min(index a, index b) { return a < b ? a : b; }
PENSTOCK_INLINE index max(index a, index b) { return a > b ? a : b; }
PENSTOCK_INLINE index divide_up(index a, index b) { return (a + b - 1) / b; }

}  // namespace penstock::PENSTOCK_ISA
