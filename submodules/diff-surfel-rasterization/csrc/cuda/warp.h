// SPDX-License-Identifier: Apache-2.0
// Sums over neighbouring lanes of a warp, in a fixed order, and of four numbers at a time.
#pragma once

#include "launch.h"

namespace iqgs {
namespace cuda {

__device__ __forceinline__ int lane_index() {
  return static_cast<int>(threadIdx.x) & (WARP - 1);
}

__device__ __forceinline__ int warp_index() {
  return static_cast<int>(threadIdx.x) / WARP;
}

__device__ __forceinline__ int warp_max(int value) {
  for (int step = WARP / 2; step > 0; step /= 2) {
    const int other = __shfl_xor_sync(EVERY_LANE, value, step);
    value = other > value ? other : value;
  }
  return value;
}

// One step of `transpose_sum`: a lane hands over the half that its partner, HALF lanes away, keeps.
// Recursion instead of a loop, so that every index is known and the values stay in registers.
template <int HALF, int COUNT>
__device__ __forceinline__ void fold_halves(float (&values)[COUNT], int lane) {
  if constexpr (HALF > 0) {
    const bool upper = lane & HALF;
#pragma unroll
    for (int k = 0; k < HALF; ++k) {
      const float kept = upper ? values[k + HALF] : values[k];
      const float given = upper ? values[k] : values[k + HALF];
      values[k] = kept + __shfl_xor_sync(EVERY_LANE, given, HALF);
    }
    fold_halves<HALF / 2>(values, lane);
  }
}

// Sums each of COUNT values over COUNT neighbouring lanes, in COUNT - 1 shuffles: lane l of them
// ends with the sum of value l in values[0]. COUNT is a power of two up to 32.
template <int COUNT>
__device__ __forceinline__ void transpose_sum(float (&values)[COUNT]) {
  fold_halves<COUNT / 2>(values, lane_index());
}

__device__ __forceinline__ float4 four_zeros() {
  return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

__device__ __forceinline__ float4 plus(const float4& a, const float4& b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

}  // namespace cuda
}  // namespace iqgs
