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

// Loops over the P parts of a vector; always unrolled, the parts stay in registers.
#define IQGS_PARTS _Pragma("GCC unroll 4") for (int p = 0; p < P; ++p)

// P native vectors side by side.
template <int P>
struct Floats {
  NativeF v[P];
  Floats() = default;
  IQGS_INLINE explicit Floats(float s) { IQGS_PARTS v[p] = s - NativeF{}; }
  static IQGS_INLINE Floats load(const float* m) {
    Floats r;
    IQGS_PARTS r.v[p] = *reinterpret_cast<const UnalignedF*>(m + p * NATIVE);
    return r;
  }
  IQGS_INLINE void store(float* m) const {
    IQGS_PARTS* reinterpret_cast<UnalignedF*>(m + p * NATIVE) = v[p];
  }
  // Stores past the cache to an address on a cache line; end with `finish_streams`.
  IQGS_INLINE void stream(float* m) const {
#if defined(__AVX512F__)
    IQGS_PARTS _mm512_stream_ps(m + p * NATIVE, reinterpret_cast<__m512>(v[p]));
#elif defined(__AVX2__)
    IQGS_PARTS _mm256_stream_ps(m + p * NATIVE, reinterpret_cast<__m256>(v[p]));
#elif defined(__SSE2__)
    IQGS_PARTS _mm_stream_ps(m + p * NATIVE, reinterpret_cast<__m128>(v[p]));
#else
    store(m);
#endif
  }
};

// Orders streamed stores before whatever tells other threads about them.
IQGS_INLINE void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

template <int P>
struct Ints {
  NativeI v[P];
  Ints() = default;
  IQGS_INLINE explicit Ints(int32_t s) { IQGS_PARTS v[p] = s - NativeI{}; }
  static IQGS_INLINE Ints from_bits(const Floats<P>& a) {
    Ints r;
    IQGS_PARTS r.v[p] = reinterpret_cast<NativeI>(a.v[p]);
    return r;
  }
  IQGS_INLINE Floats<P> bits_to_float() const {
    Floats<P> r;
    IQGS_PARTS r.v[p] = reinterpret_cast<NativeF>(v[p]);
    return r;
  }
  IQGS_INLINE Floats<P> to_float() const {
    Floats<P> r;
    IQGS_PARTS r.v[p] = __builtin_convertvector(v[p], NativeF);
    return r;
  }
  // Towards zero; within the range of the integers.
  static IQGS_INLINE Ints truncate(const Floats<P>& a) {
    Ints r;
    IQGS_PARTS r.v[p] = __builtin_convertvector(a.v[p], NativeI);
    return r;
  }
  IQGS_INLINE void store(int32_t* m) const { bits_to_float().store(reinterpret_cast<float*>(m)); }
};

using F16 = Floats<PARTS>;
using I16 = Ints<PARTS>;

// One pixel per lane: a patch is what one native vector holds, but no less than eight pixels.
constexpr int PATCH_PARTS = NATIVE >= 8 ? 1 : 2;
constexpr int PATCH = PATCH_PARTS * NATIVE;
using FP = Floats<PATCH_PARTS>;
using IP = Ints<PATCH_PARTS>;

#define IQGS_BINARY(T, op)                                     \
  template <int P>                                             \
  IQGS_INLINE T<P> operator op(const T<P>& a, const T<P>& b) { \
    T<P> r;                                                    \
    IQGS_PARTS r.v[p] = a.v[p] op b.v[p];                      \
    return r;                                                  \
  }
IQGS_BINARY(Floats, +)
IQGS_BINARY(Floats, -)
IQGS_BINARY(Floats, *)
IQGS_BINARY(Floats, /)
IQGS_BINARY(Ints, &)
IQGS_BINARY(Ints, |)
#undef IQGS_BINARY

template <int P>
IQGS_INLINE Floats<P> operator-(const Floats<P>& a) {
  Floats<P> r;
  IQGS_PARTS r.v[p] = -a.v[p];
  return r;
}

template <int P>
IQGS_INLINE Ints<P> shift_right(const Ints<P>& a, int n) {
  Ints<P> r;
  IQGS_PARTS r.v[p] = a.v[p] >> n;
  return r;
}

// Unsigned inside: lanes that nobody looks at may overflow.
template <int P>
IQGS_INLINE Ints<P> shift_left(const Ints<P>& a, int n) {
  Ints<P> r;
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeI>(reinterpret_cast<NativeU>(a.v[p]) << n);
  return r;
}

template <int P>
IQGS_INLINE Ints<P> operator+(const Ints<P>& a, const Ints<P>& b) {
  Ints<P> r;
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeI>(reinterpret_cast<NativeU>(a.v[p]) +
                                                reinterpret_cast<NativeU>(b.v[p]));
  return r;
}

template <int P>
IQGS_INLINE Ints<P> operator-(const Ints<P>& a, const Ints<P>& b) {
  Ints<P> r;
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeI>(reinterpret_cast<NativeU>(a.v[p]) -
                                                reinterpret_cast<NativeU>(b.v[p]));
  return r;
}

// Which lanes: a bit mask where the set has mask registers, all-ones integers elsewhere.
#if defined(__AVX512F__)
struct Mask {
  __mmask16 m;
};
template <int P>
using MaskOf = Mask;
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
template <int P>
struct Masks {
  NativeI v[P];
};
template <int P>
using MaskOf = Masks<P>;
using Mask = Masks<PARTS>;
template <int P>
IQGS_INLINE Masks<P> operator&(const Masks<P>& a, const Masks<P>& b) {
  Masks<P> r;
  IQGS_PARTS r.v[p] = a.v[p] & b.v[p];
  return r;
}
template <int P>
IQGS_INLINE Masks<P> operator|(const Masks<P>& a, const Masks<P>& b) {
  Masks<P> r;
  IQGS_PARTS r.v[p] = a.v[p] | b.v[p];
  return r;
}
template <int P>
IQGS_INLINE Masks<P> operator~(const Masks<P>& a) {
  Masks<P> r;
  IQGS_PARTS r.v[p] = ~a.v[p];
  return r;
}
template <int P>
IQGS_INLINE uint32_t lane_bits(const Masks<P>& a) {
  uint32_t bits = 0;
#if defined(__AVX2__)
  IQGS_PARTS bits |= static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(a.v[p])))
                     << (p * NATIVE);
#elif defined(__SSE2__)
  IQGS_PARTS bits |= static_cast<uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(a.v[p])))
                     << (p * NATIVE);
#else
  for (int i = 0; i < P * NATIVE; ++i) bits |= (a.v[i / NATIVE][i % NATIVE] & 1u) << i;
#endif
  return bits;
}
#define IQGS_COMPARE(op)                                                     \
  template <int P>                                                           \
  IQGS_INLINE Masks<P> operator op(const Floats<P>& a, const Floats<P>& b) { \
    Masks<P> r;                                                              \
    IQGS_PARTS r.v[p] = a.v[p] op b.v[p];                                    \
    return r;                                                                \
  }
IQGS_COMPARE(<)
IQGS_COMPARE(<=)
IQGS_COMPARE(>)
IQGS_COMPARE(>=)
#undef IQGS_COMPARE
template <int P>
IQGS_INLINE Masks<P> equal(const Ints<P>& a, const Ints<P>& b) {
  Masks<P> r;
  IQGS_PARTS r.v[p] = a.v[p] == b.v[p];
  return r;
}
template <int P>
IQGS_INLINE Floats<P> select(const Masks<P>& m, const Floats<P>& a, const Floats<P>& b) {
  Floats<P> r;
#if defined(__AVX2__)
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeF>(_mm256_blendv_ps(reinterpret_cast<__m256>(b.v[p]),
                                                                 reinterpret_cast<__m256>(a.v[p]),
                                                                 reinterpret_cast<__m256>(m.v[p])));
#else
  // The lanes of a mask are all ones or zero, which the compiler cannot know of `?:`.
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeF>((reinterpret_cast<NativeI>(a.v[p]) & m.v[p]) |
                                                (reinterpret_cast<NativeI>(b.v[p]) & ~m.v[p]));
#endif
  return r;
}
template <int P>
IQGS_INLINE Ints<P> select(const Masks<P>& m, const Ints<P>& a, const Ints<P>& b) {
  return Ints<P>::from_bits(select(m, a.bits_to_float(), b.bits_to_float()));
}
template <int P>
IQGS_INLINE Floats<P> zero_unless(const Masks<P>& m, const Floats<P>& a) {
  Floats<P> r;
  IQGS_PARTS r.v[p] = reinterpret_cast<NativeF>(reinterpret_cast<NativeI>(a.v[p]) & m.v[p]);
  return r;
}
#endif

using MaskP = MaskOf<PATCH_PARTS>;

template <class M>
IQGS_INLINE bool any(const M& m) {
  return lane_bits(m) != 0;
}
template <class M>
IQGS_INLINE M both(const M& a, const M& b) {
  return a & b;
}
template <class M>
IQGS_INLINE M either(const M& a, const M& b) {
  return a | b;
}

// a b + c; one rounding where the set has it. Never left to the compiler: forward and backward
// must round alike.
template <int P>
IQGS_INLINE Floats<P> fused(const Floats<P>& a, const Floats<P>& b, const Floats<P>& c) {
  Floats<P> r;
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

#if defined(__AVX512F__)
// Eight numbers, for what does not fill sixteen.
struct F8 {
  __m256 v;
  F8() = default;
  IQGS_INLINE explicit F8(float s) : v(_mm256_set1_ps(s)) {}
  IQGS_INLINE explicit F8(__m256 x) : v(x) {}
  static IQGS_INLINE F8 load(const float* m) { return F8(_mm256_loadu_ps(m)); }
  IQGS_INLINE void store(float* m) const { _mm256_storeu_ps(m, v); }
};
IQGS_INLINE F8 operator+(const F8& a, const F8& b) {
  return F8(_mm256_add_ps(a.v, b.v));
}
IQGS_INLINE F8 operator*(const F8& a, const F8& b) {
  return F8(_mm256_mul_ps(a.v, b.v));
}
IQGS_INLINE F8 fused(const F8& a, const F8& b, const F8& c) {
  return F8(_mm256_fmadd_ps(a.v, b.v, c.v));
}
#endif

}  // namespace IQGS_ISA
}  // namespace iqgs
