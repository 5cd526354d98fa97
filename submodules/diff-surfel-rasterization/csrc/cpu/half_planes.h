// SPDX-License-Identifier: Apache-2.0
// The half planes of a splat that crosses the camera plane, all in the lanes of one vector.
#pragma once

#include "../common/half_planes.h"
#include "lanes_math.h"

namespace iqgs {
namespace IQGS_ISA {

// Twelve directions and the two of W; the last lanes hold everywhere. Pixels are no larger than
// `reach`.
IQGS_INLINE HalfPlane<F16> half_planes(const SplatRecord& s, float near, float reach) {
  constexpr float H = 0.5f, Q = 0.8660254f;  // of 30 and 60 degrees
  alignas(64) static const float cosine[LANES] = {1, Q, H, 0, -H, -Q, -1, -Q, -H, 0, H, Q};
  alignas(64) static const float sine[LANES] = {0, H, Q, 1, Q, H, 0, -H, -Q, -1, -Q, -H};
  alignas(64) static const float edge[LANES] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  alignas(64) static const float ratio[LANES] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 1};
  alignas(64) static const float ahead[LANES] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1};
  static_assert(PLANE_DIRECTIONS == 12 && LANES >= PLANE_DIRECTIONS + 2, "all in one vector");
  return half_plane(s, F16::load(cosine), F16::load(sine),
                    fused(F16(-bounding_sigmas(s)), F16::load(edge), F16::load(ratio)),
                    F16(s.depth / near) * F16::load(ahead), reach);
}

// Whether all of them meet the box of pixel centres around (x, y).
IQGS_INLINE bool meet_box(const HalfPlane<F16>& h, float x, float y, float half_x, float half_y) {
  return lane_bits(meets_box(h, F16(x), F16(y), half_x, half_y)) == (1u << LANES) - 1;
}

// What of the tiles of a splat without an ellipse it may reach; the record is that of the image.
IQGS_INLINE TileBox unbounded_tiles(const SplatRecord& s, const Camera& cam, float disc,
                                    const TileBox& box) {
  const HalfPlane<F16> h = half_planes(s, cam.near, longest_side(cam));
  const auto reaches = [&](float x, float y, float half_x, float half_y) {
    return meet_box(h, x, y, half_x, half_y);
  };
  return with_disc(reached_tiles(box, reaches), s, cam, disc);
}

}  // namespace IQGS_ISA
}  // namespace iqgs
