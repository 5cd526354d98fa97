// SPDX-License-Identifier: Apache-2.0
// Adam over chosen rows: each is read and written once a call. The loops over a row's numbers are
// left to the compiler.
#pragma once

#include "../../cpu/lanes.h"
#include "kernels.h"

namespace iqgs {
namespace IQGS_ISA {

constexpr int64_t ROWS_AHEAD = 8;  // rows lie anywhere in memory: these are fetched early

IQGS_INLINE void fetch_row(const AdamRows& r, const int64_t* chosen, int64_t n, int64_t last) {
  if (n + ROWS_AHEAD >= last) return;
  const int64_t at = chosen[n + ROWS_AHEAD] * r.channels;
  __builtin_prefetch(r.value + at, 1, 2);
  __builtin_prefetch(r.mean + at, 1, 2);
  __builtin_prefetch(r.square + at, 1, 2);
}

void look_at(const LookParams& p, int64_t first, int64_t last) {
  const int channels = p.rows.channels;
  for (int64_t n = first; n < last; ++n) {
    fetch_row(p.rows, p.chosen, n, last);
    const int64_t row = p.chosen[n], at = row * channels;
    const int64_t rested = p.step - p.rows.last[row];
    const float glide = static_cast<float>(p.glide[p.rows.last[row]]);
    const float of_mean = p.decay[rested], of_square = p.decay[p.table + rested];
    float *__restrict value = p.rows.value + at, *__restrict mean = p.rows.mean + at,
          *__restrict square = p.rows.square + at, *__restrict out = p.out + n * channels;
    for (int c = 0; c < channels; ++c) {
      out[c] = value[c] = catch_up(value[c], glide, mean[c], square[c]);
      mean[c] *= of_mean;
      square[c] *= of_square;
    }
    p.rows.last[row] = p.step;
  }
}

void step(const StepParams& p, int64_t first, int64_t last) {
  const int channels = p.rows.channels;
  for (int64_t n = first; n < last; ++n) {
    fetch_row(p.rows, p.chosen, n, last);
    const int64_t row = p.chosen[n], at = row * channels;
    float *__restrict value = p.rows.value + at, *__restrict mean = p.rows.mean + at,
          *__restrict square = p.rows.square + at;
    const float* __restrict gradient = p.gradient + n * channels;
    for (int c = 0; c < channels; ++c)
      value[c] = adam_step(p, value[c], gradient[c], mean[c], square[c]);
    p.rows.last[row] = p.step;
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
