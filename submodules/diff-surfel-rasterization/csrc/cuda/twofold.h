// SPDX-License-Identifier: Apache-2.0
// A number as the unevaluated sum of two floats, about 47 bits: for what float32 is too coarse for, on
// GPUs that compute float64 at a 32nd or 64th of the speed. Sums and products without error after
// Knuth and Dekker, products by fma (Ogita, Rump, Oishi 2005); the pair is kept normalised, so `hi` is
// the nearest float. Its range is that of float32: what overflows becomes no number.
//
// Must not be compiled with contraction or reassociation (the build has neither: --fmad=false).
#pragma once

#include "../common/scalar.h"

namespace iqgs {

struct Twofold {
  float hi, lo;
  Twofold() = default;
  SURFEL_HD Twofold(float value) : hi(value), lo(0.0f) {}
  // Constants, and what the host prepares: on a GPU the conversion is as slow as a double is.
  SURFEL_HD explicit Twofold(double value)
      : hi(static_cast<float>(value)), lo(static_cast<float>(value - static_cast<double>(hi))) {}
  SURFEL_HD explicit operator float() const { return hi; }

  // The sum of a and b, whose rest is of another size, where |a| >= |b|.
  SURFEL_HD static Twofold ordered_sum(float a, float b) {
    Twofold r;
    r.hi = a + b;
    r.lo = b - (r.hi - a);
    return r;
  }
  SURFEL_HD static Twofold exact_sum(float a, float b) {
    Twofold r;
    r.hi = a + b;
    const float part = r.hi - a;
    r.lo = (a - (r.hi - part)) + (b - part);
    return r;
  }
  SURFEL_HD static Twofold exact_product(float a, float b) {
    Twofold r;
    r.hi = a * b;
    r.lo = fmaf(a, b, -r.hi);
    return r;
  }

  friend SURFEL_HD Twofold operator-(const Twofold& a) {
    Twofold r;
    r.hi = -a.hi;
    r.lo = -a.lo;
    return r;
  }
  // The sums of the parts as well, so that digits that cancel leave true ones.
  friend SURFEL_HD Twofold operator+(const Twofold& a, const Twofold& b) {
    const Twofold high = exact_sum(a.hi, b.hi), low = exact_sum(a.lo, b.lo);
    const Twofold s = ordered_sum(high.hi, high.lo + low.hi);
    return ordered_sum(s.hi, s.lo + low.lo);
  }
  friend SURFEL_HD Twofold operator-(const Twofold& a, const Twofold& b) { return a + -b; }
  friend SURFEL_HD Twofold operator*(const Twofold& a, const Twofold& b) {
    const Twofold p = exact_product(a.hi, b.hi);
    return ordered_sum(p.hi, fmaf(a.hi, b.lo, fmaf(a.lo, b.hi, p.lo)));
  }
  friend SURFEL_HD Twofold operator/(const Twofold& a, const Twofold& b) {
    const float first = a.hi / b.hi;
    const Twofold rest = a - b * Twofold(first);
    return ordered_sum(first, rest.hi / b.hi);
  }
  friend SURFEL_HD bool operator<(const Twofold& a, const Twofold& b) {
    return a.hi < b.hi || (a.hi == b.hi && a.lo < b.lo);
  }
  friend SURFEL_HD bool operator>(const Twofold& a, const Twofold& b) { return b < a; }
  friend SURFEL_HD bool operator<=(const Twofold& a, const Twofold& b) {
    return a.hi < b.hi || (a.hi == b.hi && a.lo <= b.lo);
  }
};

SURFEL_HD Twofold select(bool m, const Twofold& a, const Twofold& b) {
  return m ? a : b;
}
SURFEL_HD Twofold fused(const Twofold& a, const Twofold& b, const Twofold& c) {
  return a * b + c;
}
SURFEL_HD Twofold smaller(const Twofold& a, const Twofold& b) {
  return b < a ? b : a;
}
SURFEL_HD Twofold larger(const Twofold& a, const Twofold& b) {
  return a < b ? b : a;
}
// Of what is negative no number, as of a double.
SURFEL_HD Twofold root(const Twofold& a) {
  const float first = sqrtf(a.hi);
  if (first == 0.0f) return Twofold(0.0f);
  const Twofold rest = a - Twofold::exact_product(first, first);
  return Twofold::ordered_sum(first, rest.hi / (2.0f * first));
}
// As close as logf is; its sign is right next to 1.
SURFEL_HD Twofold natural_log(const Twofold& a) {
  return Twofold::exact_sum(logf(a.hi), a.lo / a.hi);
}
SURFEL_HD Twofold inverse_of(const Twofold& a) {
  return Twofold(1.0f) / a;
}

}  // namespace iqgs
