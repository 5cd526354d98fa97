// SPDX-License-Identifier: Apache-2.0
// Which blocks of 4 x 4 pixels of a tile a splat can reach: by its ellipse, or by half planes where
// it crosses the camera plane and has none; and by its low-pass disc.
#pragma once

#include "../common/bounds_math.h"
#include "launch.h"

namespace iqgs {
namespace cuda {

// The blocks of the tile that meet a half plane.
__device__ __forceinline__ uint32_t blocks_in(const HalfPlane<float>& h) {
  uint32_t bits = 0;
#pragma unroll 1  // rare: the registers are worth more
  for (int k = 0; k < BLOCKS_PER_TILE; ++k) {
    const float x = k % (TILE / BLOCK) * BLOCK + 0.5f * BLOCK;
    const float y = k / (TILE / BLOCK) * BLOCK + 0.5f * BLOCK;
    if (meets_box(h, x, y, 0.5f * (BLOCK - 1), 0.5f * (BLOCK - 1))) bits |= 1u << k;
  }
  return bits;
}

// Blocks that a splat without an ellipse may reach, its low-pass disc aside.
__device__ __forceinline__ uint32_t unbounded_blocks(const SplatRecord& s, float near) {
  const float edge = bounding_sigmas(s), step_cosine = 0.8660254f, step_sine = 0.5f;
  uint32_t bits = blocks_in(half_plane(s, 0.0f, 0.0f, -1.0f, 0.0f, TILE)) &
                  blocks_in(half_plane(s, 0.0f, 0.0f, 1.0f, -(s.depth / near), TILE));
  float cosine = 1.0f, sine = 0.0f;
#pragma unroll 1
  for (int k = 0; bits && k < LINE_DIRECTIONS; ++k) {
    bits &= blocks_in(half_plane(s, cosine, sine, -edge, 0.0f, TILE));
    const float next = cosine * step_cosine - sine * step_sine;
    sine = sine * step_cosine + cosine * step_sine;
    cosine = next;
  }
  return bits;
}

// Bit b: the footprint of the splat may meet a pixel of block b of the tile at (x, y).
__device__ __forceinline__ uint32_t block_mask(SplatRecord s, const Footprint& f, float x, float y,
                                               float near) {
  s.x = (s.x - x) + s.x_rest;
  s.y = (s.y - y) + s.y_rest;
  const bool unbounded = f.half_y >= EVERYWHERE;
  const Shape<float> shape = {f.x - x,
                              f.y - y,
                              f.half_x,
                              unbounded ? -1.0f : f.half_y,  // then the shape is the disc alone
                              f.slope,
                              f.chord,
                              f.disc,
                              s.x + s.anchor_x,
                              s.y + s.anchor_y};
  uint32_t bits = unbounded ? unbounded_blocks(s, near) : 0;
  for (int band = 0; band < TILE / BLOCK; ++band) {
    const float top = BLOCK * band + 0.5f;
    const Span<float> span = band_span(shape, top, top + (BLOCK - 1));
    for (int column = 0; column < TILE / BLOCK; ++column) {
      const float left = BLOCK * column + 0.5f;
      const bool meets = span.low <= left + (BLOCK - 1) && span.high >= left;
      bits |= uint32_t(meets) << (band * (TILE / BLOCK) + column);
    }
  }
  return bits;
}

}  // namespace cuda
}  // namespace iqgs
