// SPDX-License-Identifier: Apache-2.0
// The half planes of a splat that crosses the camera plane, one after the other: such splats are
// rare, registers are not to spare.
#pragma once

#include "../common/half_planes.h"
#include "launch.h"

namespace iqgs {
namespace cuda {

// Calls go_on(half plane), the two of W first, until it says no. Pixels are no larger than `reach`.
template <class GoOn>
__device__ __forceinline__ void each_half_plane(const SplatRecord& s, float near, float reach,
                                                const GoOn& go_on) {
  const float edge = bounding_sigmas(s), step_cosine = 0.8660254f, step_sine = 0.5f;
  float cosine = 1.0f, sine = 0.0f;
#pragma unroll 1
  for (int k = -2; k < PLANE_DIRECTIONS; ++k) {
    const bool directed = k >= 0;
    const float ratio = directed ? -edge : k == -2 ? -1.0f : 1.0f;
    if (!go_on(half_plane(s, directed ? cosine : 0.0f, directed ? sine : 0.0f, ratio,
                          k == -1 ? -(s.depth / near) : 0.0f, reach)))
      return;
    if (!directed) continue;
    const float next = cosine * step_cosine - sine * step_sine;
    sine = sine * step_cosine + cosine * step_sine;
    cosine = next;
  }
}

// What of the tiles of a splat without an ellipse it may reach; the record is that of the image.
__device__ __forceinline__ TileBox unbounded_tiles(const SplatRecord& s, const Camera& cam,
                                                   float disc, const TileBox& box) {
  const auto reaches = [&](float x, float y, float half_x, float half_y) {
    bool meets = true;
    each_half_plane(s, cam.near, longest_side(cam), [&](const HalfPlane<float>& h) {
      return meets = meets_box(h, x, y, half_x, half_y);
    });
    return meets;
  };
  return with_disc(reached_tiles(box, reaches), s, cam, disc);
}

// Blocks of 4 x 4 pixels of a tile that a splat without an ellipse may reach, its low-pass disc
// aside; the record is relative to the tile.
__device__ __forceinline__ uint32_t unbounded_blocks(const SplatRecord& s, float near) {
  uint32_t bits = (1u << BLOCKS_PER_TILE) - 1u;
  each_half_plane(s, near, TILE, [&](const HalfPlane<float>& h) {
    const float half = 0.5f * (BLOCK - 1);
#pragma unroll 1
    for (int k = 0; k < BLOCKS_PER_TILE; ++k) {
      const float x = k % (TILE / BLOCK) * BLOCK + 0.5f * BLOCK;
      const float y = k / (TILE / BLOCK) * BLOCK + 0.5f * BLOCK;
      if (!meets_box(h, x, y, half, half)) bits &= ~(1u << k);
    }
    return bits != 0;
  });
  return bits;
}

}  // namespace cuda
}  // namespace iqgs
