// SPDX-License-Identifier: Apache-2.0
// Activations and their derivatives, and the densification signal: a thread a splat, but a thread a
// number for the coefficients, whose rows are long.
#include "splats.h"

#include "../../cuda/launch.h"

namespace iqgs {
namespace cuda {
namespace {

constexpr int THREADS = 256;

__device__ __forceinline__ int64_t own_index() {
  return int64_t(blockIdx.x) * THREADS + threadIdx.x;
}

__global__ void __launch_bounds__(THREADS) activate_kernel(ActivateParams p) {
  const int64_t n = own_index();
  if (n >= p.count) return;
  for (int k = 0; k < p.scales; ++k) p.scale[p.scales * n + k] = expf(p.log_scales[p.scales * n + k]);
  p.opacity[n] = 1.0f / (1.0f + expf(-p.opacity_logits[n]));
}

__global__ void __launch_bounds__(THREADS) join_kernel(ActivateParams p) {
  const int64_t at = own_index();
  const int row = 3 * p.used;
  if (at >= p.count * row) return;
  const int64_t n = at / row;
  const int k = static_cast<int>(at - n * row);
  p.sh[at] = k < 3 ? p.sh_dc[3 * n + k] : p.sh_rest[3 * n * p.rest + k - 3];
}

__global__ void __launch_bounds__(THREADS) activate_backward_kernel(ActivateGradParams p) {
  const int64_t n = own_index();
  if (n >= p.count) return;
  for (int k = 0; p.log_scales && k < p.scales; ++k) {
    const int64_t at = p.scales * n + k;
    p.log_scales[at] = p.grad_scale[at] * p.scale[at];
  }
  if (p.opacity_logits)
    p.opacity_logits[n] = p.grad_opacity[n] * logistic_slope(p.opacity[n]);
}

__global__ void __launch_bounds__(THREADS) split_kernel(ActivateGradParams p) {
  const int64_t at = own_index();
  const int row = 3 * (p.rest + 1);
  if (at >= p.count * row) return;
  const int64_t n = at / row;
  const int k = static_cast<int>(at - n * row);
  const float grad = k < 3 * p.used ? p.grad_sh[3 * n * p.used + k] : 0.0f;
  if (k < 3) {
    if (p.sh_dc) p.sh_dc[3 * n + k] = grad;
  } else if (p.sh_rest) {
    p.sh_rest[3 * n * p.rest + k - 3] = grad;
  }
}

__global__ void __launch_bounds__(THREADS) signal_kernel(SignalParams p) {
  const int64_t n = own_index();
  if (n >= p.count || p.radii[n] <= 0) return;
  p.sum[n] += signal_length(p.signal[3 * n], p.signal[3 * n + 1]);
  p.seen[n] += 1.0f;
}

// A thread a number; `last` is written by another kernel, once all numbers of a row have read it.
__global__ void __launch_bounds__(THREADS) look_kernel(LookParams p) {
  const int64_t at = own_index();
  if (at >= p.count * p.rows.channels) return;
  const int64_t row = p.chosen[at / p.rows.channels];
  const int64_t i = row * p.rows.channels + at % p.rows.channels;
  const int64_t last = p.rows.last[row], rested = p.step - last;
  const float value =
      catch_up(p.rows.value[i], static_cast<float>(p.glide[last]), p.rows.mean[i],
               p.rows.square[i]);
  p.out[at] = p.rows.value[i] = value;
  p.rows.mean[i] *= p.decay[rested];
  p.rows.square[i] *= p.decay[p.table + rested];
}

__global__ void __launch_bounds__(THREADS) step_kernel(StepParams p) {
  const int64_t at = own_index();
  if (at >= p.count * p.rows.channels) return;
  const int64_t row = p.chosen[at / p.rows.channels];
  const int64_t i = row * p.rows.channels + at % p.rows.channels;
  float mean = p.rows.mean[i], square = p.rows.square[i];
  p.rows.value[i] = adam_step(p, p.rows.value[i], p.gradient[at], mean, square);
  p.rows.mean[i] = mean;
  p.rows.square[i] = square;
}

__global__ void __launch_bounds__(THREADS)
    date_kernel(AdamRows rows, const int64_t* chosen, int64_t count, int64_t step) {
  const int64_t n = own_index();
  if (n < count) rows.last[chosen[n]] = step;
}

template <class Params>
void launch_over(const char* name, void* stream, int64_t items, void (*kernel)(Params),
                 const Params& p) {
  launch(name, stream, blocks_for(items, THREADS), THREADS, 0, kernel, p);
}

}  // namespace

void activate_splats(const ActivateParams& p, void* stream) {
  launch_over("activate", stream, p.count, &activate_kernel, p);
  launch_over("join_coefficients", stream, p.count * 3 * p.used, &join_kernel, p);
}

void activate_splats_backward(const ActivateGradParams& p, void* stream) {
  launch_over("activate_backward", stream, p.count, &activate_backward_kernel, p);
  launch_over("split_coefficients", stream, p.count * 3 * (p.rest + 1), &split_kernel, p);
}

void add_signals(const SignalParams& p, void* stream) {
  launch_over("densification_signal", stream, p.count, &signal_kernel, p);
}

void look_at_rows(const LookParams& p, void* stream) {
  launch_over("look_at_rows", stream, p.count * p.rows.channels, &look_kernel, p);
  launch("date_rows", stream, blocks_for(p.count, THREADS), THREADS, 0, &date_kernel, p.rows,
         p.chosen, p.count, p.step);
}

void step_rows(const StepParams& p, void* stream) {
  launch_over("step_rows", stream, p.count * p.rows.channels, &step_kernel, p);
  launch("date_rows", stream, blocks_for(p.count, THREADS), THREADS, 0, &date_kernel, p.rows,
         p.chosen, p.count, p.step);
}

}  // namespace cuda
}  // namespace iqgs
