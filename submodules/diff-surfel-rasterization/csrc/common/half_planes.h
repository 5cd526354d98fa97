// SPDX-License-Identifier: Apache-2.0
// Where splats can be that cross the camera plane: their ellipse does not exist and their footprint
// is the whole image. Half planes bound them instead. R is the number of one half plane (float) or
// of all (vector lanes).
#pragma once

#include "bounds_math.h"

namespace iqgs {

// With U = a dx + b dy, V = c dx + d dy and W = 1 + e dx + f dy a hit has
// U^2 + V^2 <= cut W^2 and 0 < W <= depth / near: half planes of the image, of which
// U cos + V sin <= sqrt(cut) W for some directions and the two of W serve here.
constexpr int PLANE_DIRECTIONS = 12;

// The half plane base + x px + y py <= 0, in pixels relative to what the record's are relative to,
// and the rounding errors of its terms.
template <class R>
struct HalfPlane {
  R x, y, base, slack;
};

// cosine U + sine V + ratio W + constant <= 0, for pixels no larger than `reach`.
template <class R>
SURFEL_HD HalfPlane<R> half_plane(const SplatRecord& s, const R& cosine, const R& sine,
                                  const R& ratio, const R& constant, float reach_pixels) {
  const R ca = cosine * R(s.a), cb = cosine * R(s.b), sc = sine * R(s.c), sd = sine * R(s.d);
  const R re = ratio * R(s.e), rf = ratio * R(s.f), x(s.x), y(s.y);
  const R reach(reach_pixels), rounding(1e-5f);
  HalfPlane<R> h;
  h.x = ca + sc + re;
  h.y = cb + sd + rf;
  h.base = ratio + constant - h.x * x - h.y * y;
  const R along_x = (magnitude(ca) + magnitude(sc) + magnitude(re)) * (magnitude(x) + reach);
  const R along_y = (magnitude(cb) + magnitude(sd) + magnitude(rf)) * (magnitude(y) + reach);
  h.slack = rounding * (magnitude(ratio) + magnitude(constant) + along_x + along_y);
  return h;
}

// Whether the half plane meets the box of pixel centres around (x, y).
template <class R>
SURFEL_HD auto meets_box(const HalfPlane<R>& h, const R& x, const R& y, float half_x,
                         float half_y) {
  const R nearest = magnitude(h.x) * R(half_x) + magnitude(h.y) * R(half_y) + h.slack;
  return fused(h.x, x, fused(h.y, y, h.base)) <= nearest;
}

// sqrt(cut) of the half planes, a little too large.
SURFEL_HD float bounding_sigmas(const SplatRecord& s) {
  return root(larger(s.cut, 0.0f)) * (1.0f + BOUND_SLACK_RELATIVE) + 1e-6f;
}

// Whether the footprint of a splat is the whole image.
template <class R>
SURFEL_HD auto unbounded(const R& half_y) {
  return half_y >= R(EVERYWHERE);
}

// Pixels of an image are no larger than this.
SURFEL_HD float longest_side(const Camera& cam) {
  return static_cast<float>(cam.width > cam.height ? cam.width : cam.height);
}

// The largest number up to `most` for which `holds` is true; it is for zero, and for all below.
template <class Holds>
SURFEL_HD int largest(int most, const Holds& holds) {
  int low = 0;
  while (low < most) {
    const int middle = (low + most + 1) / 2;
    if (holds(middle))
      low = middle;
    else
      most = middle - 1;
  }
  return low;
}

// What is left of a box of tiles without the rows and columns at its sides that a splat cannot
// reach. reaches(x, y, half_x, half_y) says whether it can reach a box of pixel centres around a
// point, or one inside of it.
template <class Reaches>
SURFEL_HD TileBox reached_tiles(const TileBox& box, const Reaches& reaches) {
  int x0 = box.x0, y0 = box.y0, x1 = box.x1, y1 = box.y1;
  const auto misses = [&](int left, int top, int right, int bottom) {
    return !reaches(0.5f * TILE * (left + right), 0.5f * TILE * (top + bottom),
                    0.5f * (TILE * (right - left) - 1), 0.5f * (TILE * (bottom - top) - 1));
  };
  y0 += largest(y1 - y0, [&](int k) { return misses(x0, y0, x1, y0 + k); });
  y1 -= largest(y1 - y0, [&](int k) { return misses(x0, y1 - k, x1, y1); });
  if (y0 == y1) return {0, 0, 0, 0};
  x0 += largest(x1 - x0, [&](int k) { return misses(x0, y0, x0 + k, y1); });
  x1 -= largest(x1 - x0, [&](int k) { return misses(x1 - k, y0, x1, y1); });
  if (x0 == x1) return {0, 0, 0, 0};
  return {static_cast<uint16_t>(x0), static_cast<uint16_t>(y0), static_cast<uint16_t>(x1),
          static_cast<uint16_t>(y1)};
}

// `tiles` and those of the splat's low-pass disc; the record is that of the image.
SURFEL_HD TileBox with_disc(const TileBox& tiles, const SplatRecord& s, const Camera& cam,
                            float disc) {
  const float x = s.x + s.anchor_x, y = s.y + s.anchor_y;
  TileBox round = {0, 0, 0, 0};
  if (!tile_span(x - disc, x + disc, 0.0f, cam.width, round.x0, round.x1) ||
      !tile_span(y - disc, y + disc, 0.0f, cam.height, round.y0, round.y1))
    return tiles;
  if (tiles.x0 == tiles.x1) return round;
  const auto least = [](uint16_t a, uint16_t b) { return a < b ? a : b; };
  const auto most = [](uint16_t a, uint16_t b) { return a < b ? b : a; };
  return {least(tiles.x0, round.x0), least(tiles.y0, round.y0), most(tiles.x1, round.x1),
          most(tiles.y1, round.y1)};
}

}  // namespace iqgs
