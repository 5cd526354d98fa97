// SPDX-License-Identifier: Apache-2.0
// Sixteen halves to floats and back, round to nearest even; numbers >= 0 only. All instruction sets
// give the same bits.
#pragma once

#include "../common/quads.h"
#include "lanes.h"

namespace iqgs {
namespace IQGS_ISA {

IQGS_INLINE F16 load_halves(const uint16_t* m) {
#if defined(__AVX512F__)
  F16 r;
  const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(m));
  r.v[0] = reinterpret_cast<NativeF>(_mm512_cvtph_ps(raw));
  return r;
#elif defined(__F16C__)
  F16 r;
  for (int p = 0; p < PARTS; ++p) {
    const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(m + p * NATIVE));
    r.v[p] = reinterpret_cast<NativeF>(_mm256_cvtph_ps(raw));
  }
  return r;
#else
  alignas(64) float f[LANES];
  for (int i = 0; i < LANES; ++i) f[i] = half_to_float(m[i]);
  return F16::load(f);
#endif
}

IQGS_INLINE uint16_t float_to_half(float value) {
  constexpr float LEAST_NORMAL = 6.103515625e-05f;  // 2^-14: below it halves lie 2^-24 apart
  if (value < LEAST_NORMAL) return static_cast<uint16_t>(__builtin_lrintf(value * 16777216.0f));
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  bits += 0xfffu + ((bits >> 13) & 1u);
  return static_cast<uint16_t>((bits >> 13) - (112u << 10));
}

IQGS_INLINE void store_halves(const F16& a, uint16_t* m) {
#if defined(__AVX512F__)
  constexpr int NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(m), _mm512_cvtps_ph(reg(a), NEAREST));
#elif defined(__F16C__)
  for (int p = 0; p < PARTS; ++p)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(m + p * NATIVE),
                     _mm256_cvtps_ph(reinterpret_cast<__m256>(a.v[p]), _MM_FROUND_TO_NEAREST_INT));
#else
  alignas(64) float f[LANES];
  a.store(f);
  for (int i = 0; i < LANES; ++i) m[i] = float_to_half(f[i]);
#endif
}

}  // namespace IQGS_ISA
}  // namespace iqgs
