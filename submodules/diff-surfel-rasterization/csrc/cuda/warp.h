// SPDX-License-Identifier: Apache-2.0
// Sums over the 32 lanes of a warp, in a fixed order.
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

// One step of `transpose_sum`: a lane hands over the half that its partner, STEP lanes away, keeps.
// Recursion instead of a loop, so that every index is known and the values stay in registers.
template <int HALF, int STEP, int COUNT>
__device__ __forceinline__ void fold_halves(float (&values)[COUNT], int lane) {
  if constexpr (HALF > 0) {
    const bool upper = lane & STEP;
#pragma unroll
    for (int k = 0; k < HALF; ++k) {
      const float kept = upper ? values[k + HALF] : values[k];
      const float given = upper ? values[k] : values[k + HALF];
      values[k] = kept + __shfl_xor_sync(EVERY_LANE, given, STEP);
    }
    fold_halves<HALF / 2, STEP / 2>(values, lane);
  } else if constexpr (STEP > 0) {
    values[0] += __shfl_xor_sync(EVERY_LANE, values[0], STEP);
    fold_halves<0, STEP / 2>(values, lane);
  }
}

// Sums each of COUNT values over the warp in about COUNT shuffles. Lane l ends with the sum of
// value l * COUNT / 32 in values[0]. COUNT is a power of two up to 32.
template <int COUNT>
__device__ __forceinline__ void transpose_sum(float (&values)[COUNT]) {
  fold_halves<COUNT / 2, WARP / 2>(values, lane_index());
}

// Writes the sum over the warp of value(i) to out[i], i < COUNT; COUNT is a multiple of four.
template <int COUNT, int FIRST = 0, class Value>
__device__ __forceinline__ void warp_sums(const Value& value, float* out) {
  constexpr int LEFT = COUNT - FIRST;
  if constexpr (LEFT > 0) {
    constexpr int PART = LEFT >= 32 ? 32 : LEFT >= 16 ? 16 : LEFT >= 8 ? 8 : 4;
    float part[PART];
#pragma unroll
    for (int k = 0; k < PART; ++k) part[k] = value(FIRST + k);
    transpose_sum(part);
    constexpr int LANES_PER_VALUE = WARP / PART;
    const int lane = lane_index();
    if (lane % LANES_PER_VALUE == 0) out[FIRST + lane / LANES_PER_VALUE] = part[0];
    warp_sums<COUNT, FIRST + PART>(value, out);
  }
}

}  // namespace cuda
}  // namespace iqgs
