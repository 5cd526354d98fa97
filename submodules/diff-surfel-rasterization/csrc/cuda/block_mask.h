// SPDX-License-Identifier: Apache-2.0
// Which blocks of 4 x 4 pixels of a tile a splat can reach: by its ellipse, or by half planes where
// it crosses the camera plane and has none; and by its low-pass disc.
#pragma once

#include "half_planes.h"

namespace iqgs {
namespace cuda {

// Bit b: the footprint of the splat may meet a pixel of block b of the tile at (x, y).
__device__ __forceinline__ uint32_t block_mask(SplatRecord s, const Footprint& f, float x, float y,
                                               float near) {
  s.x = (s.x - x) + s.x_rest;
  s.y = (s.y - y) + s.y_rest;
  const bool crossing = unbounded(f.half_y);
  const Shape<float> shape = {f.x - x,
                              f.y - y,
                              f.half_x,
                              crossing ? -1.0f : f.half_y,  // then the shape is the disc alone
                              f.slope,
                              f.chord,
                              f.disc,
                              s.x + s.anchor_x,
                              s.y + s.anchor_y};
  uint32_t bits = crossing ? unbounded_blocks(s, near) : 0;
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
