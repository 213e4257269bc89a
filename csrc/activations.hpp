// Sigmoid, tanh and their derivatives on vectors: at most 2 ulp from the correctly rounded value over the
// whole range (tests/ops/test_activations.py measures it). Infinities have their limits, NaN stays NaN.
//
// Both rest on the exponential of a non-positive argument: x = k ln2 + r with |r| <= ln2/2, expm1(r) by a
// polynomial, then 2^k expm1(r) + (2^k - 1). No table, no branch.
#pragma once

#include "simd.hpp"

namespace penstock::PENSTOCK_ISA {

// ln2 in two pieces, so that k * high is exact; the magic number rounds to the nearest integer when added.
// The polynomial is (expm1(r) - r) / r^2, lowest power first: for float the one of least relative error
// (2^-26, found by reweighted least squares), for double the Taylor series.
template <class T> struct Exponential;
template <> struct Exponential<float> {
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    static constexpr float round_to_integer = 12582912.0f;  // 1.5 * 2^23
    static constexpr float smallest = -104.0f;              // below it exp() is 0
    static constexpr float negligible = -40.0f;             // below it 1 + exp() is 1
    static constexpr int mantissa_bits = 23, bias = 127, terms = 5;
    static constexpr int far = 64;  // 2^(k + far) is a normal number for every k
    static constexpr float back = 0x1p-64f;
    static constexpr float series[terms] = {4.9999998042e-01f, 1.6666538682e-01f, 4.1667221270e-02f,
                                            8.3671808668e-03f, 1.3882395638e-03f};
};
template <> struct Exponential<double> {
    static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
    static constexpr double round_to_integer = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr double smallest = -746.0, negligible = -80.0;
    static constexpr int mantissa_bits = 52, bias = 1023, terms = 13;
    static constexpr int far = 512;
    static constexpr double back = 0x1p-512;
    static constexpr double series[terms] = {
        1.0 / 2,         1.0 / 6,          1.0 / 24,         1.0 / 120,     1.0 / 720,
        1.0 / 5040,      1.0 / 40320,      1.0 / 362880,     1.0 / 3628800, 1.0 / 39916800,
        1.0 / 479001600, 1.0 / 6227020800, 1.0 / 87178291200};
};

// Minus the magnitude of x; and t with the sign of x, for t without one.
template <class T> PENSTOCK_INLINE Vec<T> below_zero(Vec<T> x) {
    return (Vec<T>)((IntVec<T>)x | (IntVec<T>)(-Vec<T>{}));
}
template <class T> PENSTOCK_INLINE Vec<T> with_sign(Vec<T> t, Vec<T> x) {
    return (Vec<T>)((IntVec<T>)t | ((IntVec<T>)x & (IntVec<T>)(-Vec<T>{})));
}
template <class T> PENSTOCK_INLINE Vec<T> at_least(Vec<T> x, T bound) {
// The second operand is what a NaN gives.
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) return (Vec<T>)_mm512_max_ps((__m512)broadcast(bound), (__m512)x);
    else return (Vec<T>)_mm512_max_pd((__m512d)broadcast(bound), (__m512d)x);
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) return (Vec<T>)_mm256_max_ps((__m256)broadcast(bound), (__m256)x);
    else return (Vec<T>)_mm256_max_pd((__m256d)broadcast(bound), (__m256d)x);
#else
    return x < bound ? broadcast(bound) : x;
#endif
}

// All functions take several vectors at once and work on them in turns: one alone would wait for each of its
// own results. A loop over them is one operation.
#define PENSTOCK_EACH for (int n = 0; n < N; ++n)

// x = k ln2 + r: expm1(r), and k as an integer in the last bits of `shifted`.
template <class T, int N> struct Reduced { Vec<T> expm1_r[N], shifted[N]; };

template <class T, int N> PENSTOCK_INLINE Reduced<T, N> reduce(const Vec<T> (&x)[N]) {
    using C = Exponential<T>;
    Reduced<T, N> e;
    Vec<T> k[N], r[N], series[N];
    PENSTOCK_EACH e.shifted[n] = x[n] * T(1.4426950408889634) + C::round_to_integer;
    PENSTOCK_EACH k[n] = e.shifted[n] - C::round_to_integer;
    PENSTOCK_EACH r[n] = x[n] - k[n] * C::ln2_high;
    PENSTOCK_EACH r[n] = r[n] - k[n] * C::ln2_low;
    PENSTOCK_EACH series[n] = broadcast(C::series[C::terms - 1]);
#pragma GCC unroll 16
    for (int term = C::terms - 2; term >= 0; --term)
        PENSTOCK_EACH series[n] = series[n] * r[n] + C::series[term];
    PENSTOCK_EACH series[n] *= r[n];
    PENSTOCK_EACH e.expm1_r[n] = series[n] * r[n] + r[n];
    return e;
}

// 2^(k + offset), of a k in the last bits of `shifted`; those of the magic number above it fall out.
template <class T> PENSTOCK_INLINE Vec<T> power_of_two(Vec<T> shifted, int offset = 0) {
    using C = Exponential<T>;
    return (Vec<T>)(((IntVec<T>)shifted + (C::bias + offset)) << C::mantissa_bits);
}

// x * 2^k, down to the last denormal number.
template <class T> PENSTOCK_INLINE Vec<T> scaled(Vec<T> x, Vec<T> shifted) {
#if defined(__AVX512F__)
    const Vec<T> k = shifted - Exponential<T>::round_to_integer;
    if constexpr (sizeof(T) == 4) return (Vec<T>)_mm512_scalef_ps((__m512)x, (__m512)k);
    else return (Vec<T>)_mm512_scalef_pd((__m512d)x, (__m512d)k);
#else
    // In two steps: the first stays among the normal numbers, so the second alone rounds.
    using C = Exponential<T>;
    return x * power_of_two<T>(shifted, C::far) * C::back;
#endif
}

// x = x / (1 + e) for 0 <= e <= 1.
template <class T, int N> PENSTOCK_INLINE void divide_by_one_plus(Vec<T> (&x)[N], const Vec<T> (&e)[N]) {
    Vec<T> whole[N];
    PENSTOCK_EACH whole[n] = e[n] + T(1);
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) {  // a Newton step on the quotient costs less than a division
        Vec<T> r[N], q[N];
        PENSTOCK_EACH r[n] = (Vec<T>)_mm512_rcp14_ps((__m512)whole[n]);
        PENSTOCK_EACH q[n] = x[n] * r[n];
        // In one operation: the rest is what rounding the product would lose.
        PENSTOCK_EACH x[n] = (Vec<T>)_mm512_fnmadd_ps((__m512)q[n], (__m512)whole[n], (__m512)x[n]);
        PENSTOCK_EACH x[n] = q[n] + r[n] * x[n];
        return;
    }
#endif
    PENSTOCK_EACH x[n] = x[n] / whole[n];
}

template <class T, int N> PENSTOCK_INLINE void sigmoid(Vec<T> (&x)[N]) {
    using C = Exponential<T>;
    Vec<T> e[N];
    PENSTOCK_EACH e[n] = at_least<T>(below_zero<T>(x[n]), C::smallest);
    const Reduced<T, N> reduced = reduce<T>(e);
    PENSTOCK_EACH e[n] = reduced.expm1_r[n] + T(1);
    PENSTOCK_EACH e[n] = scaled<T>(e[n], reduced.shifted[n]);
    PENSTOCK_EACH x[n] = (IntVec<T>)x[n] < 0 ? e[n] : broadcast(T(1));  // by the sign: one operation
    divide_by_one_plus<T>(x, e);
}

// (1 - e) / (1 + e) with e = exp(-2|x|), the numerator by expm1.
template <class T, int N> PENSTOCK_INLINE void tanh(Vec<T> (&x)[N]) {
    using C = Exponential<T>;
    Vec<T> e[N], scale[N], t[N];
    PENSTOCK_EACH e[n] = below_zero<T>(x[n]);
    PENSTOCK_EACH e[n] = at_least<T>(e[n] + e[n], C::negligible);
    const Reduced<T, N> reduced = reduce<T>(e);
    PENSTOCK_EACH scale[n] = power_of_two<T>(reduced.shifted[n]);
    PENSTOCK_EACH t[n] = (T(1) - scale[n]) - scale[n] * reduced.expm1_r[n];
    PENSTOCK_EACH e[n] = scale[n] * reduced.expm1_r[n] + scale[n];
    divide_by_one_plus<T>(t, e);
    PENSTOCK_EACH x[n] = with_sign<T>(t[n], x[n]);
}

template <class T, int N> PENSTOCK_INLINE void relu(Vec<T> (&x)[N]) {
    PENSTOCK_EACH x[n] = x[n] < T(0) ? Vec<T>{} : x[n];
}

// Derivatives, from the value of the function.
template <class T> PENSTOCK_INLINE Vec<T> sigmoid_slope(Vec<T> s) { return s * (T(1) - s); }
template <class T> PENSTOCK_INLINE Vec<T> tanh_slope(Vec<T> t) { return T(1) - t * t; }

}  // namespace penstock::PENSTOCK_ISA
