// SPDX-License-Identifier: Apache-2.0
// Functions of sixteen numbers: the overloads that the shared maths asks for, and sums over lanes.
#pragma once

#include "lanes.h"

namespace iqgs {
namespace IQGS_ISA {

// b where either is no number, as the machine instructions have it.
template <int P>
IQGS_INLINE Floats<P> smaller(const Floats<P>& a, const Floats<P>& b) {
  Floats<P> r;
#if defined(__AVX512F__)
  r.v[0] = reinterpret_cast<NativeF>(_mm512_min_ps(reg(a), reg(b)));
#elif defined(__AVX2__)
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeF>(
      _mm256_min_ps(reinterpret_cast<__m256>(a.v[p]), reinterpret_cast<__m256>(b.v[p])));
#else
  IQGS_PARTS r.v[p] = a.v[p] < b.v[p] ? a.v[p] : b.v[p];
#endif
  return r;
}

template <int P>
IQGS_INLINE Floats<P> larger(const Floats<P>& a, const Floats<P>& b) {
  Floats<P> r;
#if defined(__AVX512F__)
  r.v[0] = reinterpret_cast<NativeF>(_mm512_max_ps(reg(a), reg(b)));
#elif defined(__AVX2__)
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeF>(
      _mm256_max_ps(reinterpret_cast<__m256>(a.v[p]), reinterpret_cast<__m256>(b.v[p])));
#else
  IQGS_PARTS r.v[p] = a.v[p] > b.v[p] ? a.v[p] : b.v[p];
#endif
  return r;
}

template <int P>
IQGS_INLINE Floats<P> magnitude(const Floats<P>& a) {
  return (Ints<P>::from_bits(a) & Ints<P>(0x7fffffff)).bits_to_float();
}

// a, with the other sign where the mask is set.
IQGS_INLINE F16 negate_where(const Mask& m, const F16& a) {
  F16 r;
#if defined(__AVX512F__)
  r.v[0] = reinterpret_cast<NativeF>(_mm512_mask_xor_ps(reg(a), m.m, reg(a), reg(F16(-0.0f))));
#else
  for (int p = 0; p < PARTS; ++p)
    r.v[p] = reinterpret_cast<NativeF>(reinterpret_cast<NativeI>(a.v[p]) ^ (m.v[p] & INT32_MIN));
#endif
  return r;
}

template <int P>
IQGS_INLINE Floats<P> root(const Floats<P>& a) {
  Floats<P> r;
#if defined(__AVX512F__)
  r.v[0] = reinterpret_cast<NativeF>(_mm512_sqrt_ps(reg(a)));
#elif defined(__AVX2__)
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeF>(_mm256_sqrt_ps(reinterpret_cast<__m256>(a.v[p])));
#elif defined(__SSE2__)
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeF>(_mm_sqrt_ps(reinterpret_cast<__m128>(a.v[p])));
#else
  for (int i = 0; i < P * NATIVE; ++i)
    r.v[i / NATIVE][i % NATIVE] = __builtin_sqrtf(a.v[i / NATIVE][i % NATIVE]);
#endif
  return r;
}

// To 12 bits; a small number, not zero, where a is zero or negative.
template <int P>
IQGS_INLINE Floats<P> quick_root(const Floats<P>& a) {
  const Floats<P> positive = larger(a, Floats<P>(1e-20f));
  Floats<P> r;
#if defined(__AVX512F__)
  r.v[0] = reinterpret_cast<NativeF>(_mm512_rsqrt14_ps(reg(positive)));
#elif defined(__AVX2__)
  IQGS_PARTS r.v[p] =
      reinterpret_cast<NativeF>(_mm256_rsqrt_ps(reinterpret_cast<__m256>(positive.v[p])));
#elif defined(__SSE2__)
  IQGS_PARTS r.v[p] =
      reinterpret_cast<NativeF>(_mm_rsqrt_ps(reinterpret_cast<__m128>(positive.v[p])));
#else
  return root(positive);
#endif
  return positive * r;
}

// 1 / a. AVX-512: 14 bits and one Newton step, within an ulp or two of the quotient.
template <int P>
IQGS_INLINE Floats<P> reciprocal(const Floats<P>& a) {
#if defined(__AVX512F__)
  Floats<P> r;
  __m512 x = _mm512_rcp14_ps(reg(a));
  __m512 slip = _mm512_fnmadd_ps(reg(a), x, _mm512_set1_ps(1.0f));
  r.v[0] = reinterpret_cast<NativeF>(_mm512_fmadd_ps(x, slip, x));
  return r;
#else
  return Floats<P>(1.0f) / a;
#endif
}

// e^(-a / 2) for a in [0, 170], to 3 ulp; any number elsewhere. 2^n 2^f with |f| <= 1/2 and a
// minimax polynomial for 2^f (relative error 7.5e-8).
template <int P>
IQGS_INLINE Floats<P> exponential_half(const Floats<P>& a) {
  const Floats<P> scale(-0.72134752044f);  // -log2(e) / 2
  const Floats<P> magic(12582912.0f);      // 1.5 * 2^23: adding it rounds to an integer
  Floats<P> shifted = fused(a, scale, magic);
  Floats<P> f = fused(a, scale, magic - shifted);
  Floats<P> y(1.327647129e-3f);
  y = fused(y, f, Floats<P>(9.675541893e-3f));
  y = fused(y, f, Floats<P>(5.550713092e-2f));
  y = fused(y, f, Floats<P>(2.402212024e-1f));
  y = fused(y, f, Floats<P>(6.931469440e-1f));
  y = fused(y, f, Floats<P>(1.0000001192f));
  return (Ints<P>::from_bits(y) + shift_left(Ints<P>::from_bits(shifted), 23)).bits_to_float();
}

// e^-a for a in [0, 87]: the same polynomial by pairs of coefficients, a shorter chain of dependent
// operations.
IQGS_INLINE F16 exponential_negative(const F16& a) {
  const F16 scale(-1.44269504089f), magic(12582912.0f);
  F16 shifted = fused(a, scale, magic);
  F16 f = fused(a, scale, magic - shifted), square = f * f;
  F16 first = fused(f, F16(6.931469440e-1f), F16(1.0000001192f));
  F16 second = fused(f, F16(5.550713092e-2f), F16(2.402212024e-1f));
  F16 third = fused(f, F16(1.327647129e-3f), F16(9.675541893e-3f));
  F16 y = fused(square, fused(square, third, second), first);
  return (I16::from_bits(y) + shift_left(I16::from_bits(shifted), 23)).bits_to_float();
}

// log a for normal positive a: exponent and an odd series in (m - 1) / (m + 1).
IQGS_INLINE F16 natural_log(const F16& a) {
  const I16 offset(0x3f3504f3);  // bits of sqrt(1/2): mantissas come out in [0.707, 1.414)
  I16 bits = I16::from_bits(a) - offset;
  F16 exponent = shift_right(bits, 23).to_float();
  F16 m = ((bits & I16(0x007fffff)) + offset).bits_to_float();
  F16 s = (m - F16(1.0f)) / (m + F16(1.0f));
  F16 s2 = s * s;
  F16 y = fused(s2, F16(0.22222222f), F16(0.28571429f));
  y = fused(s2, y, F16(0.4f));
  y = fused(s2, y, F16(0.66666667f));
  y = fused(s2, y, F16(2.0f));
  return fused(exponent, F16(0.69314718f), s * y);
}

// Lanes of a, then of b, by constant positions.
#if defined(__clang__)
#define IQGS_SHUFFLE(I, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define IQGS_SHUFFLE(I, a, b, ...) __builtin_shuffle(a, b, (I){__VA_ARGS__})
#endif

#define IQGS_HEAD_TAIL(i) (i), (i) + 1, (i) + 2 + NATIVE, (i) + 3 + NATIVE
#define IQGS_TAIL_HEAD(i) (i) + 2, (i) + 3, (i) + NATIVE, (i) + 1 + NATIVE
#define IQGS_EVEN(i) (i), (i) + 2, (i) + NATIVE, (i) + 2 + NATIVE
#define IQGS_ODD(i) (i) + 1, (i) + 3, (i) + 1 + NATIVE, (i) + 3 + NATIVE
#if defined(__AVX512F__)
#define IQGS_EACH(f) f(0), f(4), f(8), f(12)
#elif defined(__AVX2__)
#define IQGS_EACH(f) f(0), f(4)
#else
#define IQGS_EACH(f) f(0)
#endif
#define IQGS_SHUFFLE_SUM(a, b, f, g) \
  (IQGS_SHUFFLE(NativeI, a, b, IQGS_EACH(f)) + IQGS_SHUFFLE(NativeI, a, b, IQGS_EACH(g)))

// Every group of four lanes of the result holds that group's sums of a, b, c, d in this order.
IQGS_INLINE NativeF sum_four(const NativeF& a, const NativeF& b, const NativeF& c,
                             const NativeF& d) {
  // The first shuffle is a blend: cheaper than one that moves lanes.
  NativeF ab = IQGS_SHUFFLE_SUM(a, b, IQGS_HEAD_TAIL, IQGS_TAIL_HEAD);
  NativeF cd = IQGS_SHUFFLE_SUM(c, d, IQGS_HEAD_TAIL, IQGS_TAIL_HEAD);
  return IQGS_SHUFFLE_SUM(ab, cd, IQGS_EVEN, IQGS_ODD);
}

// The same of a alone: the other lanes are anything.
IQGS_INLINE NativeF sum_first(const NativeF& a) {
  NativeF half = a + IQGS_SHUFFLE(NativeI, a, a, IQGS_EACH(IQGS_TAIL_HEAD));
  return half + IQGS_SHUFFLE(NativeI, half, half, IQGS_EACH(IQGS_ODD));
}

typedef float Quad __attribute__((vector_size(16)));
typedef int32_t QuadI __attribute__((vector_size(16)));

IQGS_INLINE Quad load_quad(const float* m) {
  Quad q;
  __builtin_memcpy(&q, m, sizeof(q));
  return q;
}

IQGS_INLINE void store_quad(float* m, const Quad& q) {
  __builtin_memcpy(m, &q, sizeof(q));
}

// Four quads side by side, and back.
IQGS_INLINE F16 join_quads(const Quad& a, const Quad& b, const Quad& c, const Quad& d) {
  F16 r;
#if defined(__AVX512F__)
  __m512 x = _mm512_castps128_ps512(reinterpret_cast<__m128>(a));
  x = _mm512_insertf32x4(x, reinterpret_cast<__m128>(b), 1);
  x = _mm512_insertf32x4(x, reinterpret_cast<__m128>(c), 2);
  r.v[0] = reinterpret_cast<NativeF>(_mm512_insertf32x4(x, reinterpret_cast<__m128>(d), 3));
#elif defined(__AVX2__)
  r.v[0] = reinterpret_cast<NativeF>(
      _mm256_set_m128(reinterpret_cast<__m128>(b), reinterpret_cast<__m128>(a)));
  r.v[1] = reinterpret_cast<NativeF>(
      _mm256_set_m128(reinterpret_cast<__m128>(d), reinterpret_cast<__m128>(c)));
#else
  r.v[0] = a, r.v[1] = b, r.v[2] = c, r.v[3] = d;
#endif
  return r;
}

template <int I>
IQGS_INLINE Quad quad_of(const F16& a) {
#if defined(__AVX512F__)
  return reinterpret_cast<Quad>(_mm512_extractf32x4_ps(reg(a), I));
#elif defined(__AVX2__)
  return reinterpret_cast<Quad>(_mm256_extractf128_ps(reinterpret_cast<__m256>(a.v[I / 2]), I % 2));
#else
  return a.v[I];
#endif
}

// out[j][i] = in[i][j] of four by four numbers.
IQGS_INLINE void transpose_four(const Quad* in, Quad* out) {
  Quad ab_low = IQGS_SHUFFLE(QuadI, in[0], in[1], 0, 4, 1, 5);
  Quad ab_high = IQGS_SHUFFLE(QuadI, in[0], in[1], 2, 6, 3, 7);
  Quad cd_low = IQGS_SHUFFLE(QuadI, in[2], in[3], 0, 4, 1, 5);
  Quad cd_high = IQGS_SHUFFLE(QuadI, in[2], in[3], 2, 6, 3, 7);
  out[0] = IQGS_SHUFFLE(QuadI, ab_low, cd_low, 0, 1, 4, 5);
  out[1] = IQGS_SHUFFLE(QuadI, ab_low, cd_low, 2, 3, 6, 7);
  out[2] = IQGS_SHUFFLE(QuadI, ab_high, cd_high, 0, 1, 4, 5);
  out[3] = IQGS_SHUFFLE(QuadI, ab_high, cd_high, 2, 3, 6, 7);
}

// The same from and to memory.
IQGS_INLINE void transpose_four(const float* in, int in_stride, float* out, int out_stride) {
  Quad m[4], t[4];
  for (int i = 0; i < 4; ++i) m[i] = load_quad(in + i * in_stride);
  transpose_four(m, t);
  for (int i = 0; i < 4; ++i) store_quad(out + i * out_stride, t[i]);
}

template <int P>
IQGS_INLINE float lane_sum(const Floats<P>& a) {
  NativeF sum = a.v[0];
#pragma GCC unroll 4
  for (int p = 1; p < P; ++p) sum += a.v[p];
  float total = 0.0f;
#pragma GCC unroll 16
  for (int i = 0; i < NATIVE; ++i) total += sum[i];
  return total;
}

// row[0 .. 3] += the sum of a's groups of four lanes, row[4 .. 7] that of b's, and so on.
IQGS_INLINE void add_quads(const NativeF& a, const NativeF& b, const NativeF& c, const NativeF& d,
                           float* row) {
  F16 r;
#if defined(__AVX512F__)
  auto fold = [](const NativeF& e, const NativeF& f) {
    __m512 x = reinterpret_cast<__m512>(e), y = reinterpret_cast<__m512>(f);
    return reinterpret_cast<NativeF>(
        _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd)));
  };
  r.v[0] = fold(fold(a, b), fold(c, d));
#elif defined(__AVX2__)
  auto fold = [](const NativeF& e, const NativeF& f) {
    __m256 x = reinterpret_cast<__m256>(e), y = reinterpret_cast<__m256>(f);
    return reinterpret_cast<NativeF>(
        _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31)));
  };
  r.v[0] = fold(a, b), r.v[1] = fold(c, d);
#else
  r.v[0] = a, r.v[1] = b, r.v[2] = c, r.v[3] = d;
#endif
  (F16::load(row) + r).store(row);
}

}  // namespace IQGS_ISA
}  // namespace iqgs
