// SPDX-License-Identifier: Apache-2.0
// Where a splat can contribute: its tiles, and the pixels of a band of rows.
// R is the number of one splat (float) or of many (vector lanes); there are no branches. The bounds
// have slack, so single precision does.
#pragma once

#include "params.h"
#include "scalar.h"

namespace iqgs {

// Named as in `Footprint`, and the box before the slack.
template <class R>
struct SplatBounds {
  R x, y, half_x, half_y, slope, chord, disc;
  R low_x, low_y, high_x, high_y;  // pixels, without slack
  R radius;                        // pixels, of the 3 sigma box
};

// First and one past the last tile along one axis; false where no pixel centre lies inside.
SURFEL_HD bool tile_span(float low, float high, float slack, int pixels, uint16_t& first,
                         uint16_t& last) {
  const float limit = static_cast<float>(pixels - 1);
  float begin = ceilf(low - 0.5f), end = floorf(high - 0.5f);
  begin = begin > 0.0f ? begin : 0.0f;
  end = end < limit ? end : limit;
  if (!(begin <= end)) return false;
  float wide_begin = ceilf(low - slack - 0.5f);
  float wide_end = floorf(high + slack - 0.5f);
  wide_begin = wide_begin > 0.0f ? wide_begin : 0.0f;
  wide_end = wide_end < limit ? wide_end : limit;
  first = static_cast<uint16_t>(static_cast<int>(wide_begin) / TILE);
  last = static_cast<uint16_t>(static_cast<int>(wide_end) / TILE + 1);
  return true;
}

// Tiles in a box.
SURFEL_HD int64_t area(const TileBox& box) {
  return int64_t(box.x1 - box.x0) * (box.y1 - box.y0);
}

// Tiles of one splat that has support; empty where it is not visible.
SURFEL_HD TileBox tile_box(const Camera& cam, const SplatBounds<float>& b) {
  TileBox box = {0, 0, 0, 0};
  const float slack_x = BOUND_SLACK_PIXELS + BOUND_SLACK_RELATIVE * b.half_x;
  const float slack_y = BOUND_SLACK_PIXELS + BOUND_SLACK_RELATIVE * b.half_y;
  if (!tile_span(b.low_x, b.high_x, slack_x, cam.width, box.x0, box.x1) ||
      !tile_span(b.low_y, b.high_y, slack_y, cam.height, box.y0, box.y1))
    return {0, 0, 0, 0};
  return box;
}

// The radius that is reported for a visible splat, whole pixels.
SURFEL_HD int32_t whole_radius(float radius) {
  const float limit = 1073741824.0f;  // 2^30 stays inside int32 for degenerate boxes
  const float r = ceilf(radius);
  return static_cast<int32_t>(r < limit ? r : limit);
}

template <class R>
struct Span {
  R low, high;  // empty where low > high
};

// A footprint in R, its centre and anchor relative to a tile.
template <class R>
struct Shape {
  R x, y, half_x, half_y, slope, chord, disc, anchor_x, anchor_y;
};

// The columns that an ellipse or its low-pass disc covers in rows y0 .. y1 of pixel centres. Square
// roots may be rough: the shape has grown by more than they are wrong.
template <class R>
SURFEL_HD Span<R> band_span(const Shape<R>& f, const R& y0, const R& y1) {
  const R one(1.0f), zero(0.0f), far(EVERYWHERE), tiny(1e-20f);
  R low = larger(y0 - f.y, -f.half_y), high = smaller(y1 - f.y, f.half_y);
  auto hit = low <= high;
  R tip = f.slope * f.half_y * f.half_y / f.half_x;  // row of the rightmost point, relative to y
  R right_y = smaller(larger(tip, low), high), left_y = smaller(larger(-tip, low), high);
  R inverse = one / larger(f.half_y, tiny);
  R r = right_y * inverse, l = left_y * inverse;
  R right = f.x + fused(f.slope, right_y, f.chord * quick_root(one - r * r));
  R left = f.x + fused(f.slope, left_y, -(f.chord * quick_root(one - l * l)));
  Span<R> s = {select(hit, left, far), select(hit, right, -far)};
  R dy = smaller(larger(zero, y0 - f.anchor_y), y1 - f.anchor_y);
  R rest = f.disc * f.disc - dy * dy;
  R reach = quick_root(rest);
  auto disc_hit = rest >= zero;
  s.low = select(disc_hit, smaller(s.low, f.anchor_x - reach), s.low);
  s.high = select(disc_hit, larger(s.high, f.anchor_x + reach), s.high);
  return s;
}

}  // namespace iqgs
