// SPDX-License-Identifier: Apache-2.0
// Where a splat can contribute: its footprint, its tiles, and the pixels of a band of rows.
// R is the number of one splat (float) or of many (vector lanes); there are no branches. The bounds
// have slack, so single precision does.
#pragma once

#include "projection_math.h"

namespace iqgs {

// Named as in `Footprint`, and the box before the slack.
template <class R>
struct SplatBounds {
  R x, y, half_x, half_y, slope, chord, disc;
  R low_x, low_y, high_x, high_y;  // pixels, without slack
  R radius;                        // pixels, of the 3 sigma box
};

// `axes`, depth, centre and anchor as in SplatView; `cut` may be negative.
template <class R>
SURFEL_HD SplatBounds<R> splat_bounds(const Camera& cam, const CenteredAxes<R>& axes,
                                      const R& depth, const Vec3<R>& center, const Vec3<R>& anchor,
                                      const R& cut) {
  SplatBounds<R> b;
  const R zero(0.0f), everywhere(EVERYWHERE), tiny(1e-20f);
  const R grow(1.0f + BOUND_SLACK_RELATIVE), slack(BOUND_SLACK_PIXELS);
  R rho = larger(cut, zero);
  Ellipse<R> q = ellipse_at(axes, depth, rho);
  // Visibility asks the exact box; close to the crossing the footprint is the whole image.
  auto bounded = q.crossing < R(1.0f);
  R half_x = select(bounded, root(larger(q.xx, zero)), everywhere);
  R half_y = select(bounded, root(larger(q.yy, zero)), everywhere);
  R x = select(bounded, center.x + q.offset_x, R(0.5f * cam.width));
  R y = select(bounded, center.y + q.offset_y, R(0.5f * cam.height));
  R disc = root(rho * R(1.0f / LOW_PASS_PRECISION));
  b.low_x = smaller(x - half_x, anchor.x - disc);
  b.low_y = smaller(y - half_y, anchor.y - disc);
  b.high_x = larger(x + half_x, anchor.x + disc);
  b.high_y = larger(y + half_y, anchor.y + disc);

  bounded = q.crossing < R(CROSSING_RATIO);
  half_x = select(bounded, half_x, everywhere);
  half_y = select(bounded, half_y, everywhere);
  R slope = select(bounded, q.xy / larger(q.yy, tiny), zero);
  R chord = select(bounded, root(larger(q.xx - slope * q.xy, zero)), everywhere);
  b.x = x;
  b.y = y;
  b.half_x = fused(half_x, grow, slack);
  b.half_y = fused(half_y, grow, slack);
  b.slope = slope;
  b.chord = chord + fused(half_x, R(BOUND_SLACK_RELATIVE), slack);
  b.disc = fused(disc, grow, slack);

  Ellipse<R> box = ellipse_at(axes, depth, R(BOX_SIGMAS * BOX_SIGMAS));
  R radius = larger(root(larger(larger(box.xx, box.yy), zero)), R(MIN_RADIUS));
  R whole(static_cast<float>(cam.width > cam.height ? cam.width : cam.height));
  b.radius = select(box.crossing < R(1.0f), radius, whole);
  return b;
}

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
