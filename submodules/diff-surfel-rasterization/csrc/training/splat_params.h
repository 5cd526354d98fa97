// SPDX-License-Identifier: Apache-2.0
// What a training step does to all splats beside rendering them: raw parameters to what the
// rasterizer takes, gradients back, and the densification signal. Both devices share it.
#pragma once

#include <cstdint>

#include "../common/scalar.h"

namespace iqgs {

// Scales are exponentials, opacities logistic; the coefficients of the bands in use lie side by side.
struct ActivateParams {
  int64_t count;          // N
  int scales;             // S of a splat
  int rest;               // K - 1: coefficients beside the first
  int used;               // 1 .. K: those that go out
  const float* log_scales;       // [N, S]
  const float* opacity_logits;   // [N]
  const float* sh_dc;            // [N, 3]
  const float* sh_rest;          // [N, rest, 3]
  float* scale;    // [N, S] out
  float* opacity;  // [N] out
  float* sh;       // [N, used, 3] out
};

// From gradients of the results to those of the parameters; coefficients that are not used get zero.
struct ActivateGradParams {
  int64_t count;
  int scales, rest, used;
  const float* scale;    // the results of the forward pass
  const float* opacity;
  const float* grad_scale;
  const float* grad_opacity;
  const float* grad_sh;
  float* log_scales;  // out, each may be null
  float* opacity_logits;
  float* sh_dc;
  float* sh_rest;
};

// sum += |(x, y)|, seen += 1 where the splat is visible.
struct SignalParams {
  int64_t count;
  const int32_t* radii;  // [N] above zero: visible
  const float* signal;   // [N, 3] x, y, and a number that is not read
  float* sum;            // [N] in and out
  float* seen;           // [N] in and out
};

// Derivative of the logistic function by its argument, from its value.
template <class R>
SURFEL_HD R logistic_slope(const R& value) {
  return value * (R(1.0f) - value);
}

// The length of a splat's signal.
template <class R>
SURFEL_HD R signal_length(const R& x, const R& y) {
  return root(fused(x, x, y * y));
}

}  // namespace iqgs
