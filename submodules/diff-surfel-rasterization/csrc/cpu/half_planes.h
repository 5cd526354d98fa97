// SPDX-License-Identifier: Apache-2.0
// Where splats can be that cross the camera plane and have no ellipse: all half planes of a splat
// in the lanes of one vector.
#pragma once

#include "../common/bounds_math.h"
#include "lanes_math.h"

namespace iqgs {
namespace IQGS_ISA {

// The half planes of a splat in the lanes of a vector: twelve directions and the two of W. The last
// lanes hold everywhere. Pixels lie within `reach` of where the record is relative to.
IQGS_INLINE HalfPlane<F16> half_planes(const SplatRecord& s, float near, float reach) {
  constexpr float H = 0.5f, Q = 0.8660254f;  // of 30 and 60 degrees
  alignas(64) static const float cosine[LANES] = {1, Q, H, 0, -H, -Q, -1, -Q, -H, 0, H, Q};
  alignas(64) static const float sine[LANES] = {0, H, Q, 1, Q, H, 0, -H, -Q, -1, -Q, -H};
  alignas(64) static const float edge[LANES] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  alignas(64) static const float ratio[LANES] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 1};
  alignas(64) static const float ahead[LANES] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1};
  static_assert(LINE_DIRECTIONS == 12 && LANES >= LINE_DIRECTIONS + 2, "all in one vector");
  return half_plane(s, F16::load(cosine), F16::load(sine),
                    fused(F16(-bounding_sigmas(s)), F16::load(edge), F16::load(ratio)),
                    F16(s.depth / near) * F16::load(ahead), reach);
}

// Whether all of them meet the box of pixel centres around (x, y).
IQGS_INLINE bool meet_box(const HalfPlane<F16>& h, float x, float y, float half_x, float half_y) {
  return lane_bits(meets_box(h, F16(x), F16(y), half_x, half_y)) == (1u << LANES) - 1;
}

// The tiles of `box` that a splat without an ellipse, whose record is that of the image, may reach:
// rows and columns at its sides that it cannot reach are taken away. The low-pass disc keeps its
// own tiles; with none left the box is empty.
IQGS_INLINE TileBox reached_tiles(const SplatRecord& s, const Camera& cam, float disc,
                                  const TileBox& box) {
  const float longest = static_cast<float>(cam.width > cam.height ? cam.width : cam.height);
  const HalfPlane<F16> h = half_planes(s, cam.near, longest);
  int x0 = box.x0, y0 = box.y0, x1 = box.x1, y1 = box.y1;
  const auto reaches = [&](int left, int top, int right, int bottom) {
    const float half_x = 0.5f * (TILE * (right - left) - 1);
    const float half_y = 0.5f * (TILE * (bottom - top) - 1);
    return meet_box(h, 0.5f * TILE * (left + right), 0.5f * TILE * (top + bottom), half_x, half_y);
  };
  while (y0 < y1 && !reaches(x0, y0, x1, y0 + 1)) ++y0;
  while (y0 < y1 && !reaches(x0, y1 - 1, x1, y1)) --y1;
  while (y0 < y1 && x0 < x1 && !reaches(x0, y0, x0 + 1, y1)) ++x0;
  while (y0 < y1 && x0 < x1 && !reaches(x1 - 1, y0, x1, y1)) --x1;
  const bool empty = x0 >= x1 || y0 >= y1;
  TileBox found = {0, 0, 0, 0}, round = {0, 0, 0, 0};
  if (!empty)
    found = {static_cast<uint16_t>(x0), static_cast<uint16_t>(y0), static_cast<uint16_t>(x1),
             static_cast<uint16_t>(y1)};
  const float x = s.x + s.anchor_x, y = s.y + s.anchor_y;
  if (!tile_span(x - disc, x + disc, 0.0f, cam.width, round.x0, round.x1) ||
      !tile_span(y - disc, y + disc, 0.0f, cam.height, round.y0, round.y1))
    return found;
  if (empty) return round;
  const auto least = [](uint16_t a, uint16_t b) { return a < b ? a : b; };
  const auto most = [](uint16_t a, uint16_t b) { return a < b ? b : a; };
  return {least(found.x0, round.x0), least(found.y0, round.y0), most(found.x1, round.x1),
          most(found.y1, round.y1)};
}

}  // namespace IQGS_ISA
}  // namespace iqgs
