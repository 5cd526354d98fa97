// SPDX-License-Identifier: Apache-2.0
// Sixteen numbers at once, as one, two or four native vectors. Included once per instruction set,
// inside that set's namespace, so that no two sets share an inline function.
// Needs IQGS_ISA (the namespace) and <cstdint>; immintrin.h where the set is x86.
#pragma once

#include <cstdint>
#if defined(__x86_64__) || defined(__i386__)
#if defined(__GNUC__) && !defined(__clang__)
// GCC's own AVX-512 headers pass undefined vectors on purpose.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#endif

#include "../common/scalar.h"

namespace iqgs {
namespace IQGS_ISA {

#define IQGS_INLINE inline __attribute__((always_inline))
// A phase of a kernel: stays a function of its own, so that profiles can name it.
#define IQGS_PHASE static __attribute__((noinline))

#if defined(__AVX512F__)
constexpr int NATIVE = 16;
#elif defined(__AVX2__)
constexpr int NATIVE = 8;
#else
constexpr int NATIVE = 4;
#endif
constexpr int LANES = 16;
constexpr int PARTS = LANES / NATIVE;

typedef float NativeF __attribute__((vector_size(NATIVE * 4)));
typedef int32_t NativeI __attribute__((vector_size(NATIVE * 4)));
typedef uint32_t NativeU __attribute__((vector_size(NATIVE * 4)));
typedef float UnalignedF __attribute__((vector_size(NATIVE * 4), aligned(4), may_alias));

// Loops over the parts of a vector; always unrolled, the parts stay in registers.
#define IQGS_PARTS _Pragma("GCC unroll 4") for (int p = 0; p < PARTS; ++p)

struct F16 {
  NativeF v[PARTS];
  F16() = default;
  IQGS_INLINE explicit F16(float s) { IQGS_PARTS v[p] = s - NativeF{}; }
  static IQGS_INLINE F16 load(const float* m) {
    F16 r;
    IQGS_PARTS r.v[p] = *reinterpret_cast<const UnalignedF*>(m + p * NATIVE);
    return r;
  }
  IQGS_INLINE void store(float* m) const {
    IQGS_PARTS* reinterpret_cast<UnalignedF*>(m + p * NATIVE) = v[p];
  }
  // Stores past the cache to an address on a cache line; end with `finish_streams`.
  IQGS_INLINE void stream(float* m) const {
#if defined(__AVX512F__)
    _mm512_stream_ps(m, reinterpret_cast<__m512>(v[0]));
#elif defined(__AVX2__)
    IQGS_PARTS _mm256_stream_ps(m + p * NATIVE, reinterpret_cast<__m256>(v[p]));
#else
    store(m);
#endif
  }
};

// Orders streamed stores before whatever tells other threads about them.
IQGS_INLINE void finish_streams() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

struct I16 {
  NativeI v[PARTS];
  I16() = default;
  IQGS_INLINE explicit I16(int32_t s) { IQGS_PARTS v[p] = s - NativeI{}; }
  static IQGS_INLINE I16 from_bits(const F16& a) {
    I16 r;
    IQGS_PARTS r.v[p] = reinterpret_cast<NativeI>(a.v[p]);
    return r;
  }
  IQGS_INLINE F16 bits_to_float() const {
    F16 r;
    IQGS_PARTS r.v[p] = reinterpret_cast<NativeF>(v[p]);
    return r;
  }
  IQGS_INLINE F16 to_float() const {
    F16 r;
    IQGS_PARTS r.v[p] = __builtin_convertvector(v[p], NativeF);
    return r;
  }
  IQGS_INLINE void store(int32_t* m) const { bits_to_float().store(reinterpret_cast<float*>(m)); }
};

#define IQGS_BINARY(T, op)                            \
  IQGS_INLINE T operator op(const T& a, const T& b) { \
    T r;                                              \
    IQGS_PARTS r.v[p] = a.v[p] op b.v[p];             \
    return r;                                         \
  }
IQGS_BINARY(F16, +)
IQGS_BINARY(F16, -)
IQGS_BINARY(F16, *)
IQGS_BINARY(F16, /)
IQGS_BINARY(I16, &)
IQGS_BINARY(I16, |)
#undef IQGS_BINARY

IQGS_INLINE F16 operator-(const F16& a) {
  F16 r;
  IQGS_PARTS r.v[p] = -a.v[p];
  return r;
}

IQGS_INLINE I16 shift_right(const I16& a, int n) {
  I16 r;
  IQGS_PARTS r.v[p] = a.v[p] >> n;
  return r;
}

// Unsigned inside: lanes that nobody looks at may overflow.
IQGS_INLINE I16 shift_left(const I16& a, int n) {
  I16 r;
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeI>(reinterpret_cast<NativeU>(a.v[p]) << n);
  return r;
}

IQGS_INLINE I16 operator+(const I16& a, const I16& b) {
  I16 r;
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeI>(reinterpret_cast<NativeU>(a.v[p]) +
                                                reinterpret_cast<NativeU>(b.v[p]));
  return r;
}

IQGS_INLINE I16 operator-(const I16& a, const I16& b) {
  I16 r;
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeI>(reinterpret_cast<NativeU>(a.v[p]) -
                                                reinterpret_cast<NativeU>(b.v[p]));
  return r;
}

// Which lanes: a bit mask where the set has mask registers, all-ones integers elsewhere.
#if defined(__AVX512F__)
struct Mask {
  __mmask16 m;
};
IQGS_INLINE Mask operator&(Mask a, Mask b) {
  return {static_cast<__mmask16>(a.m & b.m)};
}
IQGS_INLINE Mask operator|(Mask a, Mask b) {
  return {static_cast<__mmask16>(a.m | b.m)};
}
IQGS_INLINE Mask operator~(Mask a) {
  return {static_cast<__mmask16>(~a.m)};
}
IQGS_INLINE uint32_t lane_bits(Mask a) {
  return a.m;
}
IQGS_INLINE __m512 reg(const F16& a) {
  return reinterpret_cast<__m512>(a.v[0]);
}
IQGS_INLINE __m512i reg(const I16& a) {
  return reinterpret_cast<__m512i>(a.v[0]);
}
#define IQGS_COMPARE(op, code)                               \
  IQGS_INLINE Mask operator op(const F16& a, const F16& b) { \
    return {_mm512_cmp_ps_mask(reg(a), reg(b), code)};       \
  }
IQGS_COMPARE(<, _CMP_LT_OQ)
IQGS_COMPARE(<=, _CMP_LE_OQ)
IQGS_COMPARE(>, _CMP_GT_OQ)
IQGS_COMPARE(>=, _CMP_GE_OQ)
#undef IQGS_COMPARE
IQGS_INLINE Mask equal(const I16& a, const I16& b) {
  return {_mm512_cmpeq_epi32_mask(reg(a), reg(b))};
}
IQGS_INLINE F16 select(Mask m, const F16& a, const F16& b) {
  F16 r;
  r.v[0] = reinterpret_cast<NativeF>(_mm512_mask_blend_ps(m.m, reg(b), reg(a)));
  return r;
}
IQGS_INLINE I16 select(Mask m, const I16& a, const I16& b) {
  I16 r;
  r.v[0] = reinterpret_cast<NativeI>(_mm512_mask_blend_epi32(m.m, reg(b), reg(a)));
  return r;
}
// a where the mask is set, else zero.
IQGS_INLINE F16 zero_unless(Mask m, const F16& a) {
  F16 r;
  r.v[0] = reinterpret_cast<NativeF>(_mm512_maskz_mov_ps(m.m, reg(a)));
  return r;
}
#else
struct Mask {
  NativeI v[PARTS];
};
IQGS_INLINE Mask operator&(const Mask& a, const Mask& b) {
  Mask r;
  IQGS_PARTS r.v[p] = a.v[p] & b.v[p];
  return r;
}
IQGS_INLINE Mask operator|(const Mask& a, const Mask& b) {
  Mask r;
  IQGS_PARTS r.v[p] = a.v[p] | b.v[p];
  return r;
}
IQGS_INLINE Mask operator~(const Mask& a) {
  Mask r;
  IQGS_PARTS r.v[p] = ~a.v[p];
  return r;
}
IQGS_INLINE uint32_t lane_bits(const Mask& a) {
  uint32_t bits = 0;
#if defined(__AVX2__)
  IQGS_PARTS bits |= static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(a.v[p])))
                     << (p * NATIVE);
#elif defined(__SSE2__)
  IQGS_PARTS bits |= static_cast<uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(a.v[p])))
                     << (p * NATIVE);
#else
  for (int i = 0; i < LANES; ++i) bits |= (a.v[i / NATIVE][i % NATIVE] & 1u) << i;
#endif
  return bits;
}
#define IQGS_COMPARE(op)                                     \
  IQGS_INLINE Mask operator op(const F16& a, const F16& b) { \
    Mask r;                                                  \
    IQGS_PARTS r.v[p] = a.v[p] op b.v[p];                    \
    return r;                                                \
  }
IQGS_COMPARE(<)
IQGS_COMPARE(<=)
IQGS_COMPARE(>)
IQGS_COMPARE(>=)
#undef IQGS_COMPARE
IQGS_INLINE Mask equal(const I16& a, const I16& b) {
  Mask r;
  IQGS_PARTS r.v[p] = a.v[p] == b.v[p];
  return r;
}
IQGS_INLINE F16 select(const Mask& m, const F16& a, const F16& b) {
  F16 r;
  IQGS_PARTS r.v[p] = m.v[p] ? a.v[p] : b.v[p];
  return r;
}
IQGS_INLINE I16 select(const Mask& m, const I16& a, const I16& b) {
  I16 r;
  IQGS_PARTS r.v[p] = m.v[p] ? a.v[p] : b.v[p];
  return r;
}
IQGS_INLINE F16 zero_unless(const Mask& m, const F16& a) {
  F16 r;
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeF>(reinterpret_cast<NativeI>(a.v[p]) & m.v[p]);
  return r;
}
#endif

IQGS_INLINE bool any(const Mask& m) {
  return lane_bits(m) != 0;
}
IQGS_INLINE Mask both(const Mask& a, const Mask& b) {
  return a & b;
}
IQGS_INLINE Mask either(const Mask& a, const Mask& b) {
  return a | b;
}

// a b + c; one rounding where the set has it. Never left to the compiler: forward and backward
// must round alike.
IQGS_INLINE F16 fused(const F16& a, const F16& b, const F16& c) {
  F16 r;
#if defined(__AVX512F__)
  r.v[0] = reinterpret_cast<NativeF>(_mm512_fmadd_ps(reg(a), reg(b), reg(c)));
#elif defined(__FMA__)
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeF>(_mm256_fmadd_ps(reinterpret_cast<__m256>(a.v[p]),
                                                                reinterpret_cast<__m256>(b.v[p]),
                                                                reinterpret_cast<__m256>(c.v[p])));
#else
  IQGS_PARTS r.v[p] = a.v[p] * b.v[p] + c.v[p];
#endif
  return r;
}

}  // namespace IQGS_ISA
}  // namespace iqgs
