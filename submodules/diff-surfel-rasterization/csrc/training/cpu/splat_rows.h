// SPDX-License-Identifier: Apache-2.0
// Activations and their derivatives, and the densification signal, for a piece of the splats.
#pragma once

#include <type_traits>

#include "../../cpu/columns.h"
#include "kernels.h"

namespace iqgs {
namespace IQGS_ISA {

// e^a to 2 ulp for every number, infinity and zero where float32 ends. a = n log 2 + f with
// |f| <= log 2 / 2 in two parts, so that nothing is lost for large n; 2^n in two factors, so that
// both exist when the result is denormal.
IQGS_INLINE F16 exponential(const F16& a) {
  const F16 magic(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const F16 x = larger(F16(-104.0f), smaller(F16(89.0f), a));
  const F16 n = fused(x, F16(1.44269504089f), magic) - magic;
  const F16 f = fused(n, F16(-1.42860677e-6f), fused(n, F16(-0.693145752f), x));
  F16 y(1.3888889e-3f);
  y = fused(y, f, F16(8.3333333e-3f));
  y = fused(y, f, F16(4.1666667e-2f));
  y = fused(y, f, F16(1.6666667e-1f));
  y = fused(y, f, F16(0.5f));
  y = fused(f * f, y, f) + F16(1.0f);
  const I16 whole = I16::truncate(n), half = shift_right(whole, 1);
  const I16 bias(127);
  const F16 first = shift_left(half + bias, 23).bits_to_float();
  const F16 second = shift_left(whole - half + bias, 23).bits_to_float();
  return y * first * second;
}

// out[i] = f(in[i]) for i in [first, last), whole vectors and a rest.
template <class Function>
IQGS_INLINE void map_numbers(const float* in, float* out, int64_t first, int64_t last,
                             const Function& f) {
  int64_t i = first;
  for (; i + LANES <= last; i += LANES) f(F16::load(in + i)).store(out + i);
  if (i == last) return;
  alignas(64) float some[LANES] = {};
  for (int64_t k = i; k < last; ++k) some[k - i] = in[k];
  f(F16::load(some)).store(some);
  for (int64_t k = i; k < last; ++k) out[k] = some[k - i];
}

// Runs work with the number of coefficients as a constant, so that rows are copied in whole vectors;
// 0 stands for a number that is none of the usual ones.
template <class Work>
IQGS_INLINE void with_used(int used, const Work& work) {
  if (used == 1) return work(std::integral_constant<int, 1>());
  if (used == 4) return work(std::integral_constant<int, 4>());
  if (used == 9) return work(std::integral_constant<int, 9>());
  if (used == 16) return work(std::integral_constant<int, 16>());
  work(std::integral_constant<int, 0>());
}

template <int USED>
IQGS_PHASE void join_coefficients(const ActivateParams& p, int64_t first, int64_t last) {
  const int used = 3 * (USED ? USED : p.used);
  for (int64_t n = first; n < last; ++n) {
    const float *__restrict dc = p.sh_dc + 3 * n, *__restrict rest = p.sh_rest + 3 * n * p.rest;
    float* const __restrict out = p.sh + n * used;
    for (int k = 0; k < 3; ++k) out[k] = dc[k];
    for (int k = 3; k < used; ++k) out[k] = rest[k - 3];
  }
}

template <int USED>
IQGS_PHASE void split_coefficients(const ActivateGradParams& p, int64_t first, int64_t last) {
  const int used = 3 * (USED ? USED : p.used), all = 3 * p.rest + 3;
  for (int64_t n = first; n < last; ++n) {
    const float* const __restrict in = p.grad_sh + n * used;
    float* const __restrict dc = p.sh_dc + 3 * n;
    if (p.sh_dc)
      for (int k = 0; k < 3; ++k) dc[k] = in[k];
    if (!p.sh_rest) continue;
    float* const __restrict rest = p.sh_rest + 3 * n * p.rest - 3;
    for (int k = 3; k < used; ++k) rest[k] = in[k];
    for (int k = used; k < all; ++k) rest[k] = 0.0f;
  }
}

void activate(const ActivateParams& p, int64_t first, int64_t last) {
  map_numbers(p.log_scales, p.scale, p.scales * first, p.scales * last,
              [](const F16& a) { return exponential(a); });
  map_numbers(p.opacity_logits, p.opacity, first, last,
              [](const F16& a) { return F16(1.0f) / (F16(1.0f) + exponential(-a)); });
  with_used(p.used, [&](auto used) { join_coefficients<decltype(used)::value>(p, first, last); });
}

void activate_grads(const ActivateGradParams& p, int64_t first, int64_t last) {
  if (p.log_scales)
    for (int64_t i = p.scales * first; i < p.scales * last; ++i)
      p.log_scales[i] = p.grad_scale[i] * p.scale[i];
  if (p.opacity_logits)
    for (int64_t n = first; n < last; ++n)
      p.opacity_logits[n] = p.grad_opacity[n] * logistic_slope(p.opacity[n]);
  with_used(p.used, [&](auto used) { split_coefficients<decltype(used)::value>(p, first, last); });
}

// Adds to up to sixteen numbers.
IQGS_INLINE void add_some(const F16& more, float* to, int64_t count) {
  if (count >= LANES) return (F16::load(to) + more).store(to);
  alignas(64) float some[LANES];
  more.store(some);
  for (int64_t i = 0; i < count; ++i) to[i] += some[i];
}

void add_signal(const SignalParams& p, int64_t first, int64_t last) {
  for (int64_t n = first; n < last; n += LANES) {
    const int64_t count = last - n;
    alignas(64) int32_t radii[LANES] = {};
    __builtin_memcpy(radii, p.radii + n, sizeof(int32_t) * (count < LANES ? count : LANES));
    const I16 radius = I16::from_bits(F16::load(reinterpret_cast<const float*>(radii)));
    const Mask visible = radius.to_float() > F16(0.0f);
    F16 signal[3];
    load_columns<3>(p.signal, n, p.count, signal);
    add_some(zero_unless(visible, signal_length(signal[0], signal[1])), p.sum + n, count);
    add_some(zero_unless(visible, F16(1.0f)), p.seen + n, count);
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
