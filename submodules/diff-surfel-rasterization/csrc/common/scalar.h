// SPDX-License-Identifier: Apache-2.0
// Operations that the shared maths needs beside + - * /, for plain numbers. Vector types bring
// their own overloads (cpu/lanes.h), found by argument-dependent lookup.
#pragma once

#include <cmath>

#if defined(__CUDACC__)
#define SURFEL_HD __host__ __device__ __forceinline__
#else
#define SURFEL_HD inline __attribute__((always_inline))
#endif

// A loop whose index chooses among arrays: unrolled, a GPU keeps these in registers.
#if defined(__CUDA_ARCH__)
#define SURFEL_UNROLL _Pragma("unroll")
#else
#define SURFEL_UNROLL
#endif

namespace iqgs {

SURFEL_HD float select(bool m, float a, float b) {
  return m ? a : b;
}
SURFEL_HD double select(bool m, double a, double b) {
  return m ? a : b;
}
SURFEL_HD float fused(float a, float b, float c) {
  return fmaf(a, b, c);
}
SURFEL_HD double fused(double a, double b, double c) {
  return fma(a, b, c);
}
SURFEL_HD float root(float a) {
  return sqrtf(a);
}
SURFEL_HD double root(double a) {
  return sqrt(a);
}
// Root of a, of zero where a is negative; need not be closer than BOUND_SLACK_RELATIVE / 2.
SURFEL_HD float quick_root(float a) {
  return sqrtf(a > 0.0f ? a : 0.0f);
}
SURFEL_HD float natural_log(float a) {
  return logf(a);
}
SURFEL_HD double natural_log(double a) {
  return log(a);
}
// e^(-a / 2): the falloff of a splat at squared distance a. On a GPU the instruction for powers of
// two alone (log2(e) / 2 = 0.7213), a few units in the last place off within the cut-off.
SURFEL_HD float exponential_half(float a) {
#if defined(__CUDA_ARCH__)
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(-0.72134752f * a));
  return r;
#else
  return expf(-0.5f * a);
#endif
}
SURFEL_HD double exponential_half(double a) {
  return exp(-0.5 * a);
}
SURFEL_HD float exponential_negative(float a) {
  return expf(-a);
}
SURFEL_HD double exponential_negative(double a) {
  return exp(-a);
}
SURFEL_HD float smaller(float a, float b) {
  return b < a ? b : a;
}
SURFEL_HD double smaller(double a, double b) {
  return b < a ? b : a;
}
SURFEL_HD float larger(float a, float b) {
  return a < b ? b : a;
}
SURFEL_HD double larger(double a, double b) {
  return a < b ? b : a;
}
SURFEL_HD float magnitude(float a) {
  return fabsf(a);
}
SURFEL_HD double magnitude(double a) {
  return fabs(a);
}
SURFEL_HD float reciprocal(float a) {
#if defined(__CUDA_ARCH__)
  float r;  // one unit in the last place, one instruction
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(a));
  return r;
#else
  return 1.0f / a;
#endif
}
SURFEL_HD double reciprocal(double a) {
  return 1.0 / a;
}
// 1 / a of a number of the camera, as precise as that is.
SURFEL_HD double inverse_of(double a) {
  return 1.0 / a;
}
SURFEL_HD bool either(bool a, bool b) {
  return a || b;
}
SURFEL_HD bool both(bool a, bool b) {
  return a && b;
}

template <class R>
struct Vec3 {
  R x, y, z;
};

template <class R>
SURFEL_HD Vec3<R> operator+(const Vec3<R>& a, const Vec3<R>& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}

template <class R>
SURFEL_HD Vec3<R> operator-(const Vec3<R>& a, const Vec3<R>& b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}

template <class R>
SURFEL_HD Vec3<R> operator*(const Vec3<R>& a, const R& s) {
  return {a.x * s, a.y * s, a.z * s};
}

template <class R>
SURFEL_HD R dot(const Vec3<R>& a, const Vec3<R>& b) {
  return fused(a.x, b.x, fused(a.y, b.y, a.z * b.z));
}

template <class R>
SURFEL_HD Vec3<R> cross(const Vec3<R>& a, const Vec3<R>& b) {
  return {fused(a.y, b.z, -(a.z * b.y)), fused(a.z, b.x, -(a.x * b.z)),
          fused(a.x, b.y, -(a.y * b.x))};
}

}  // namespace iqgs
