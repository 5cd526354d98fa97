// SPDX-License-Identifier: Apache-2.0
// Sixteen doubles: the projection and its derivative keep digits that float32 loses on splats
// seen nearly edge-on. Only what the shared maths of a splat asks for.
#pragma once

#include "lanes_math.h"

namespace iqgs {
namespace IQGS_ISA {

constexpr int NATIVE_D = NATIVE / 2;
constexpr int PARTS_D = LANES / NATIVE_D;
typedef double NativeD __attribute__((vector_size(NATIVE_D * 8)));
typedef int64_t NativeL __attribute__((vector_size(NATIVE_D * 8)));
typedef float HalfF __attribute__((vector_size(NATIVE_D * 4)));

#define IQGS_PARTS_D _Pragma("GCC unroll 8") for (int p = 0; p < PARTS_D; ++p)

struct D16 {
  NativeD v[PARTS_D];
  D16() = default;
  IQGS_INLINE explicit D16(double s) { IQGS_PARTS_D v[p] = s - NativeD{}; }
  static IQGS_INLINE D16 load(const float* m) {
    D16 r;
    IQGS_PARTS_D {
      HalfF half;
      __builtin_memcpy(&half, m + p * NATIVE_D, sizeof(half));
      r.v[p] = __builtin_convertvector(half, NativeD);
    }
    return r;
  }
  IQGS_INLINE void store(float* m) const {
    IQGS_PARTS_D {
      HalfF half = __builtin_convertvector(v[p], HalfF);
      __builtin_memcpy(m + p * NATIVE_D, &half, sizeof(half));
    }
  }
};

struct MaskD {
  NativeL v[PARTS_D];
};

#define IQGS_BINARY(op)                                     \
  IQGS_INLINE D16 operator op(const D16& a, const D16& b) { \
    D16 r;                                                  \
    IQGS_PARTS_D r.v[p] = a.v[p] op b.v[p];                 \
    return r;                                               \
  }
IQGS_BINARY(+)
IQGS_BINARY(-)
IQGS_BINARY(*)
IQGS_BINARY(/)
#undef IQGS_BINARY

#define IQGS_COMPARE(op)                                      \
  IQGS_INLINE MaskD operator op(const D16& a, const D16& b) { \
    MaskD r;                                                  \
    IQGS_PARTS_D r.v[p] = a.v[p] op b.v[p];                   \
    return r;                                                 \
  }
IQGS_COMPARE(<)
IQGS_COMPARE(<=)
IQGS_COMPARE(>)
IQGS_COMPARE(>=)
#undef IQGS_COMPARE

IQGS_INLINE MaskD operator&(const MaskD& a, const MaskD& b) {
  MaskD r;
  IQGS_PARTS_D r.v[p] = a.v[p] & b.v[p];
  return r;
}

IQGS_INLINE D16 operator-(const D16& a) {
  D16 r;
  IQGS_PARTS_D r.v[p] = -a.v[p];
  return r;
}

IQGS_INLINE D16 select(const MaskD& m, const D16& a, const D16& b) {
  D16 r;
  IQGS_PARTS_D r.v[p] = m.v[p] ? a.v[p] : b.v[p];
  return r;
}

IQGS_INLINE D16 larger(const D16& a, const D16& b) {
  return select(a < b, b, a);
}

IQGS_INLINE D16 smaller(const D16& a, const D16& b) {
  return select(b < a, b, a);
}

// Two roundings: doubles have digits to spare here.
IQGS_INLINE D16 fused(const D16& a, const D16& b, const D16& c) {
  return a * b + c;
}

IQGS_INLINE D16 root(const D16& a) {
  D16 r;
#if defined(__AVX512F__)
  IQGS_PARTS_D r.v[p] =
      reinterpret_cast<NativeD>(_mm512_sqrt_pd(reinterpret_cast<__m512d>(a.v[p])));
#elif defined(__AVX2__)
  IQGS_PARTS_D r.v[p] =
      reinterpret_cast<NativeD>(_mm256_sqrt_pd(reinterpret_cast<__m256d>(a.v[p])));
#else
  IQGS_PARTS_D for (int i = 0; i < NATIVE_D; ++i) r.v[p][i] = __builtin_sqrt(a.v[p][i]);
#endif
  return r;
}

// One bit per lane.
IQGS_INLINE uint32_t lane_bits(const MaskD& a) {
  uint32_t bits = 0;
#if defined(__AVX512F__)
  IQGS_PARTS_D bits |=
      static_cast<uint32_t>(_mm512_movepi64_mask(reinterpret_cast<__m512i>(a.v[p])))
      << (p * NATIVE_D);
#else
  for (int i = 0; i < LANES; ++i) bits |= (a.v[i / NATIVE_D][i % NATIVE_D] & 1u) << i;
#endif
  return bits;
}

// Within registers where the set allows: a vector that is stored in halves and loaded whole waits
// for the memory.
IQGS_INLINE F16 narrow(const D16& a) {
#if defined(__AVX512F__)
  auto half = [&](int p) { return _mm512_cvtpd_ps(reinterpret_cast<__m512d>(a.v[p])); };
  F16 r;
  r.v[0] =
      reinterpret_cast<NativeF>(_mm512_insertf32x8(_mm512_castps256_ps512(half(0)), half(1), 1));
  return r;
#elif defined(__AVX2__)
  auto half = [&](int p) { return _mm256_cvtpd_ps(reinterpret_cast<__m256d>(a.v[p])); };
  F16 r;
  r.v[0] = reinterpret_cast<NativeF>(_mm256_set_m128(half(1), half(0)));
  r.v[1] = reinterpret_cast<NativeF>(_mm256_set_m128(half(3), half(2)));
  return r;
#else
  alignas(64) float m[LANES];
  a.store(m);
  return F16::load(m);
#endif
}

IQGS_INLINE D16 widen(const F16& a) {
#if defined(__AVX512F__)
  D16 r;
  r.v[0] = reinterpret_cast<NativeD>(_mm512_cvtps_pd(_mm512_castps512_ps256(reg(a))));
  r.v[1] = reinterpret_cast<NativeD>(_mm512_cvtps_pd(_mm512_extractf32x8_ps(reg(a), 1)));
  return r;
#elif defined(__AVX2__)
  D16 r;
  for (int p = 0; p < PARTS; ++p) {
    const __m256 whole = reinterpret_cast<__m256>(a.v[p]);
    r.v[2 * p] = reinterpret_cast<NativeD>(_mm256_cvtps_pd(_mm256_castps256_ps128(whole)));
    r.v[2 * p + 1] = reinterpret_cast<NativeD>(_mm256_cvtps_pd(_mm256_extractf128_ps(whole, 1)));
  }
  return r;
#else
  alignas(64) float m[LANES];
  a.store(m);
  return D16::load(m);
#endif
}

// To float32 accuracy: it only places a threshold.
IQGS_INLINE D16 natural_log(const D16& a) {
  return widen(natural_log(narrow(a)));
}

IQGS_INLINE Vec3<F16> narrow(const Vec3<D16>& a) {
  return {narrow(a.x), narrow(a.y), narrow(a.z)};
}

}  // namespace IQGS_ISA
}  // namespace iqgs
