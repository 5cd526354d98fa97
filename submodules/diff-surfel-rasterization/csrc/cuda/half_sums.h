// SPDX-License-Identifier: Apache-2.0
// Sums over the pixels of half a warp, a lane a moment and a channel or two.
#pragma once

#include "grad_batch.h"

namespace iqgs {
namespace cuda {

// Which moment a lane of a half sums: that of row `from`, times one, dx or dy. The first pixel of
// the half and the splat's centre give the factor there; it grows by step_x and step_y a pixel.
struct MomentLane {
  int from;
  float first, step_x, step_y;
};

// Moments 0 to 8 are three rows times 1, dx, dy; the others rows as they are. Rows that splats of
// this kind have none of are those of the weights, times zero.
template <class Pixels>
__device__ __forceinline__ MomentLane moment_lane(const Pixel& pixel) {
  static_assert(M_U == 0 && M_V == 3 && M_W == 6 && M_ALPHA == 9 && M_HIT_DEPTH == 13, "in turn");
  const int lane = lane_index() % HALF, factor = lane < M_ALPHA ? lane % 3 : 0;
  const int row = lane < M_ALPHA ? S_U + lane / 3 : lane < M_ABS_X ? S_ALPHA + lane - M_ALPHA : 0;
  const bool missing = lane >= M_W && lane != M_ALPHA && lane != M_DEPTH;
  if (!Pixels::FLAT && missing) return {lane_index() & HALF, 0.0f, 0.0f, 0.0f};
  const float x = pixel.px - static_cast<float>(lane % BLOCK);
  const float y = pixel.py - static_cast<float>(lane / BLOCK);
  return {row * STAGE_STRIDE + (lane_index() & HALF),
          factor == 1   ? x
          : factor == 2 ? y
                        : 1.0f,
          factor == 1 ? 1.0f : 0.0f, factor == 2 ? 1.0f : 0.0f};
}

// The lane's moment of a splat at (x, y): its row times the factors, over the pixels of the half.
__device__ __forceinline__ float sum_moment(const float* stage, const MomentLane& m, float x,
                                            float y) {
  float factor = fused(-m.step_x, x, fused(-m.step_y, y, m.first)), sum = 0.0f, across = 0.0f;
#pragma unroll
  for (int k = 0; k < BLOCK; ++k) {
    const float4 v = row_quad(stage + m.from, k);
    sum = fused((v.x + v.y) + (v.z + v.w), factor, sum);
    across += fused(3.0f, v.w, fused(2.0f, v.z, v.y));
    factor += m.step_y;
  }
  return fused(m.step_x, across, sum);
}

// Adds weight * grad. WILD: a weight of zero adds nothing, whatever the gradient.
template <bool WILD>
__device__ __forceinline__ float lit(float weight, float grad, float sum) {
  return WILD && weight == 0.0f ? sum : fused(weight, grad, sum);
}

// Sums of weights times image gradients, from channel FIRST of CHANNELS on: a lane's own channel of
// each part.
template <int FIRST, bool WILD, int CHANNELS>
__device__ __forceinline__ void sum_channels(const float* weights, const HalfGrad<CHANNELS>& g,
                                             float* sums) {
  constexpr int PART = part_of(CHANNELS - FIRST);
  const int lane = lane_index() % HALF;
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < PART; k += 4) {
    const float4 v = row_quad(weights + lane / PART * PART, k / 4);
    sum = lit<WILD>(v.x, g.channels[FIRST + k], sum);
    sum = lit<WILD>(v.y, g.channels[FIRST + k + 1], sum);
    sum = lit<WILD>(v.z, g.channels[FIRST + k + 2], sum);
    sum = lit<WILD>(v.w, g.channels[FIRST + k + 3], sum);
  }
#pragma unroll
  for (int step = PART; step < HALF; step *= 2) sum += __shfl_xor_sync(EVERY_LANE, sum, step);
  sums[0] = sum;
  if constexpr (FIRST + PART < CHANNELS) sum_channels<FIRST + PART, WILD>(weights, g, sums + 1);
}

// Adds what the lanes have of a splat's sums to the warp's row: COUNT values of each, the moment
// first where there is one. Where both halves are at the same splat (`twin`) they add first, so
// that one lane writes.
template <int CHANNELS, int GEOMETRY, int COUNT>
__device__ __forceinline__ void add_sums(float* row, bool twin, bool writes, float (&sums)[COUNT]) {
  if (__all_sync(EVERY_LANE, twin)) {  // the same in all lanes, and so the compiler knows
#pragma unroll
    for (int n = 0; n < COUNT; ++n) sums[n] += __shfl_xor_sync(EVERY_LANE, sums[n], HALF);
  }
  const int lane = lane_index() % HALF;
  constexpr int SKIP = GEOMETRY == NO_GEOMETRY ? 0 : 1;
#pragma unroll
  for (int n = 0; n < COUNT; ++n) {
    const int width = n < SKIP ? HALF : part_of(CHANNELS - HALF * (n - SKIP));
    sums[n] += writes && lane < width ? row[HALF * n + lane] : 0.0f;
  }
#pragma unroll
  for (int n = 0; n < COUNT; ++n) {
    const int width = n < SKIP ? HALF : part_of(CHANNELS - HALF * (n - SKIP));
    if (writes && lane < width) row[HALF * n + lane] = sums[n];
  }
}

}  // namespace cuda
}  // namespace iqgs
