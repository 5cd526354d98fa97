// SPDX-License-Identifier: Apache-2.0
// Functions of sixteen numbers: the overloads that the shared maths asks for, and sums over lanes.
#pragma once

#include "lanes.h"

namespace iqgs {
namespace IQGS_ISA {

IQGS_INLINE F16 smaller(const F16& a, const F16& b) { return select(b < a, b, a); }
IQGS_INLINE F16 larger(const F16& a, const F16& b) { return select(a < b, b, a); }

IQGS_INLINE F16 magnitude(const F16& a) {
  return (I16::from_bits(a) & I16(0x7fffffff)).bits_to_float();
}

IQGS_INLINE F16 root(const F16& a) {
  F16 r;
#if defined(__AVX512F__)
  r.v[0] = reinterpret_cast<NativeF>(_mm512_sqrt_ps(reg(a)));
#elif defined(__AVX2__)
  IQGS_PARTS r.v[p] =
      reinterpret_cast<NativeF>(_mm256_sqrt_ps(reinterpret_cast<__m256>(a.v[p])));
#elif defined(__SSE2__)
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeF>(_mm_sqrt_ps(reinterpret_cast<__m128>(a.v[p])));
#else
  for (int i = 0; i < LANES; ++i)
    r.v[i / NATIVE][i % NATIVE] = __builtin_sqrtf(a.v[i / NATIVE][i % NATIVE]);
#endif
  return r;
}

// 1 / a. AVX-512: 14 bits and one Newton step, within an ulp or two of the quotient.
IQGS_INLINE F16 reciprocal(const F16& a) {
#if defined(__AVX512F__)
  F16 r;
  __m512 x = _mm512_rcp14_ps(reg(a));
  __m512 slip = _mm512_fnmadd_ps(reg(a), x, _mm512_set1_ps(1.0f));
  r.v[0] = reinterpret_cast<NativeF>(_mm512_fmadd_ps(x, slip, x));
  return r;
#else
  return F16(1.0f) / a;
#endif
}

// e^a for a in [-87, 0], to 2 ulp: 2^n 2^f with |f| <= 1/2 and a polynomial for 2^f.
IQGS_INLINE F16 exponential(const F16& a) {
  F16 t = larger(a * F16(1.44269504088896f), F16(-126.0f));
  const F16 magic(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  F16 shifted = t + magic;
  F16 f = t - (shifted - magic);
  F16 y(1.5353362e-4f);
  y = fused(y, f, F16(1.3398874e-3f));
  y = fused(y, f, F16(9.6184373e-3f));
  y = fused(y, f, F16(5.5503324e-2f));
  y = fused(y, f, F16(2.4022648e-1f));
  y = fused(y, f, F16(6.9314720e-1f));
  y = fused(y, f, F16(1.0f));
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

#define IQGS_ZIP_LOW(i) (i), (i) + NATIVE, (i) + 1, (i) + 1 + NATIVE
#define IQGS_ZIP_HIGH(i) (i) + 2, (i) + 2 + NATIVE, (i) + 3, (i) + 3 + NATIVE
#define IQGS_PAIR_LOW(i) (i), (i) + 1, (i) + NATIVE, (i) + 1 + NATIVE
#define IQGS_PAIR_HIGH(i) (i) + 2, (i) + 3, (i) + 2 + NATIVE, (i) + 3 + NATIVE
#if defined(__AVX512F__)
#define IQGS_EACH(f) {f(0), f(4), f(8), f(12)}
#elif defined(__AVX2__)
#define IQGS_EACH(f) {f(0), f(4)}
#else
#define IQGS_EACH(f) {f(0)}
#endif

#if defined(__clang__)
#define IQGS_SHUFFLE_SUM(a, b, f, g)                                         \
  ([&] {                                                                     \
    const NativeI low = IQGS_EACH(f), high = IQGS_EACH(g);                   \
    NativeF r;                                                               \
    for (int i = 0; i < NATIVE; ++i)                                         \
      r[i] = (low[i] < NATIVE ? a[low[i]] : b[low[i] - NATIVE]) +            \
             (high[i] < NATIVE ? a[high[i]] : b[high[i] - NATIVE]);          \
    return r;                                                                \
  }())
#else
#define IQGS_SHUFFLE_SUM(a, b, f, g)                                             \
  (__builtin_shuffle(a, b, (NativeI)IQGS_EACH(f)) +                              \
   __builtin_shuffle(a, b, (NativeI)IQGS_EACH(g)))
#endif

// Every group of four lanes of the result holds partial sums of a, b, c, d in this order.
IQGS_INLINE NativeF sum_four(const NativeF& a, const NativeF& b, const NativeF& c,
                             const NativeF& d) {
  NativeF ab = IQGS_SHUFFLE_SUM(a, b, IQGS_ZIP_LOW, IQGS_ZIP_HIGH);
  NativeF cd = IQGS_SHUFFLE_SUM(c, d, IQGS_ZIP_LOW, IQGS_ZIP_HIGH);
  return IQGS_SHUFFLE_SUM(ab, cd, IQGS_PAIR_LOW, IQGS_PAIR_HIGH);
}

// The parts of one vector added up: what remains to be summed has NATIVE lanes.
IQGS_INLINE NativeF fold_parts(const F16& a) {
  NativeF r = a.v[0];
#pragma GCC unroll 4
  for (int p = 1; p < PARTS; ++p) r += a.v[p];
  return r;
}

// sums[i] += sum over lanes of m[i], for 16 vectors.
IQGS_INLINE void add_lane_sums(const F16* m, float* sums) {
  typedef float Quad __attribute__((vector_size(16)));
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    NativeF s = sum_four(fold_parts(m[i]), fold_parts(m[i + 1]), fold_parts(m[i + 2]),
                         fold_parts(m[i + 3]));
    Quad q;
    __builtin_memcpy(&q, sums + i, 16);
#pragma GCC unroll 4
    for (int j = 0; j < NATIVE / 4; ++j) {
      Quad part;
      __builtin_memcpy(&part, reinterpret_cast<const char*>(&s) + 16 * j, 16);
      q += part;
    }
    __builtin_memcpy(sums + i, &q, 16);
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
