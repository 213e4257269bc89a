// Sigmoid, tanh and their derivatives on vectors.
//
// Both rest on expm1 of a non-positive argument: x = k ln2 + r with |r| <= ln2/2, expm1(r) by its Taylor
// series (truncated well below an ulp), then 2^k expm1(r) + (2^k - 1). No table, no branch; NaN stays NaN.
#pragma once

#include "simd.hpp"

namespace penstock::PENSTOCK_ISA {

// ln2 in two pieces, so that k * high is exact; the magic number rounds to the nearest integer when added.
template <class T> struct Exponential;
template <> struct Exponential<float> {
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    static constexpr float round_to_integer = 12582912.0f;  // 1.5 * 2^23
    static constexpr float smallest = -87.0f;               // exp() stays a normal number
    static constexpr int mantissa_bits = 23, bias = 127, terms = 8;
};
template <> struct Exponential<double> {
    static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
    static constexpr double round_to_integer = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr double smallest = -708.0;
    static constexpr int mantissa_bits = 52, bias = 1023, terms = 14;
};

template <class T> PENSTOCK_INLINE Vec<T> magnitude(Vec<T> x) { return x < T(0) ? -x : x; }

template <class T> constexpr T inverse_factorial(int n) {
    double value = 1;
    for (int i = 2; i <= n; ++i) value /= i;
    return static_cast<T>(value);
}

template <class T> struct Expm1 {
    Vec<T> value;  // exp(x) - 1
    Vec<T> exp;    // exp(x)
};

// x <= 0.
template <class T> PENSTOCK_INLINE Expm1<T> expm1(Vec<T> x) {
    using C = Exponential<T>;
    x = x < C::smallest ? broadcast(C::smallest) : x;
    const Vec<T> shifted = x * T(1.4426950408889634) + C::round_to_integer;
    const Vec<T> k = shifted - C::round_to_integer;
    const Vec<T> r = (x - k * C::ln2_high) - k * C::ln2_low;

    Vec<T> series = broadcast(inverse_factorial<T>(C::terms));  // of expm1(r) - r, over r^2
#pragma GCC unroll 16
    for (int n = C::terms - 1; n >= 2; --n) series = series * r + inverse_factorial<T>(n);
    const Vec<T> expm1_r = r * r * series + r;

    const IntVec<T> magic = (IntVec<T>)broadcast(C::round_to_integer);
    const IntVec<T> exponent = (IntVec<T>)shifted - magic + C::bias;
    const Vec<T> scale = (Vec<T>)(exponent << C::mantissa_bits);  // 2^k
    return {scale * expm1_r + (scale - T(1)), scale * expm1_r + scale};
}

// 1 / (1 + exp(-x)), through exp(-|x|) so that both tails keep their relative accuracy.
template <class T> PENSTOCK_INLINE Vec<T> sigmoid(Vec<T> x) {
    const Vec<T> e = expm1<T>(-magnitude<T>(x)).exp;
    const Vec<T> numerator = x < T(0) ? e : broadcast(T(1));
    return numerator / (T(1) + e);
}

// With q = exp(-2|x|): (1 - q) / (1 + q), by expm1 where x is small, 1 - 2q / (1 + q) where that is closer.
template <class T> PENSTOCK_INLINE Vec<T> tanh(Vec<T> x) {
    const Vec<T> size = magnitude<T>(x);
    const Expm1<T> e = expm1<T>(size * T(-2));
    const auto small = size < T(0.55);
    const Vec<T> quotient = (small ? -e.value : e.exp + e.exp) / (T(1) + e.exp);
    const Vec<T> t = small ? quotient : T(1) - quotient;
    return x < T(0) ? -t : t;
}

template <class T> PENSTOCK_INLINE Vec<T> relu(Vec<T> x) { return x < T(0) ? Vec<T>{} : x; }

// Derivatives, from the value of the function.
template <class T> PENSTOCK_INLINE Vec<T> sigmoid_slope(Vec<T> s) { return s * (T(1) - s); }
template <class T> PENSTOCK_INLINE Vec<T> tanh_slope(Vec<T> t) { return T(1) - t * t; }

}  // namespace penstock::PENSTOCK_ISA
