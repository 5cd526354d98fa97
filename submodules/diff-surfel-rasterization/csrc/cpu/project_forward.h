// SPDX-License-Identifier: Apache-2.0
// Splats to records, footprints, tile boxes, radii and colours: sixteen splats at a time.
#pragma once

#include "../common/projection_math.h"
#include "../common/sh_math.h"
#include "kernels.h"
#include "lanes_double.h"

namespace iqgs {
namespace IQGS_ISA {

// Column `column` of rows [N, stride] for the splats first .. first + 15 (the last one repeated).
IQGS_INLINE D16 gather_column(const float* rows, int stride, int column, int64_t first,
                              int64_t count) {
  alignas(64) float m[LANES];
  for (int i = 0; i < LANES; ++i) {
    int64_t n = first + i < count ? first + i : count - 1;
    m[i] = rows[n * stride + column];
  }
  return D16::load(m);
}

IQGS_INLINE SplatInput<D16> gather_splats(const ProjectParams& p, int64_t first) {
  const int64_t n = p.count;
  return {{gather_column(p.means, 3, 0, first, n), gather_column(p.means, 3, 1, first, n),
           gather_column(p.means, 3, 2, first, n)},
          gather_column(p.scales, 2, 0, first, n),
          gather_column(p.scales, 2, 1, first, n),
          gather_column(p.rotations, 4, 0, first, n),
          gather_column(p.rotations, 4, 1, first, n),
          gather_column(p.rotations, 4, 2, first, n),
          gather_column(p.rotations, 4, 3, first, n),
          gather_column(p.opacities, 1, 0, first, n)};
}

// In front of the near plane and not edge-on: the splats whose record means something.
IQGS_INLINE uint32_t splats_alive(const Camera& cam, const SplatFrame<D16>& f) {
  D16 limit = D16(EDGE_ON_COSINE * EDGE_ON_COSINE) * dot(f.center, f.center);
  return lane_bits(f.center.z > D16(cam.near)) & lane_bits(f.facing * f.facing > limit);
}

// Bounds of sixteen splats, one array per number.
struct Bounds16 {
  Footprint shape[LANES];
  float low_x[LANES], low_y[LANES], high_x[LANES], high_y[LANES];  // pixels, without slack
  float radius[LANES];
};

// The bounds have slack, so float32 does.
IQGS_PHASE void bound_splats(const Camera& cam, const SplatFrame<D16>& f, const SplatView<D16>& v,
                             Bounds16& out) {
  CenteredAxes<D16> wide = centered_axes(cam, f);
  CenteredAxes<F16> axes = {narrow(wide.ux), narrow(wide.uy), narrow(wide.uz),
                            narrow(wide.vx), narrow(wide.vy), narrow(wide.vz)};
  const F16 depth = narrow(v.depth), center_x = narrow(v.x), center_y = narrow(v.y);
  const F16 anchor_x = narrow(v.x + v.anchor_x), anchor_y = narrow(v.y + v.anchor_y);
  F16 rho = larger(narrow(v.cut), F16(0.0f));
  Ellipse<F16> q = ellipse_at(axes, depth, rho);
  // Visibility asks the exact box; close to the crossing the footprint is the whole image.
  Mask bounded = q.crossing < F16(1.0f);
  const F16 zero(0.0f), everywhere(EVERYWHERE), tiny(1e-20f);
  F16 half_x = select(bounded, root(larger(q.xx, zero)), everywhere);
  F16 half_y = select(bounded, root(larger(q.yy, zero)), everywhere);
  F16 x = select(bounded, center_x + q.offset_x, F16(0.5f * cam.width));
  F16 y = select(bounded, center_y + q.offset_y, F16(0.5f * cam.height));
  F16 disc = root(rho * F16(1.0f / LOW_PASS_PRECISION));
  smaller(x - half_x, anchor_x - disc).store(out.low_x);
  smaller(y - half_y, anchor_y - disc).store(out.low_y);
  larger(x + half_x, anchor_x + disc).store(out.high_x);
  larger(y + half_y, anchor_y + disc).store(out.high_y);

  bounded = q.crossing < F16(CROSSING_RATIO);
  half_x = select(bounded, half_x, everywhere);
  half_y = select(bounded, half_y, everywhere);
  F16 slope = select(bounded, q.xy / larger(q.yy, tiny), zero);
  F16 chord = select(bounded, root(larger(q.xx - slope * q.xy, zero)), everywhere);

  Ellipse<F16> box = ellipse_at(axes, depth, F16(BOX_SIGMAS * BOX_SIGMAS));
  F16 radius = larger(root(larger(larger(box.xx, box.yy), zero)), F16(MIN_RADIUS));
  F16 whole(static_cast<float>(cam.width > cam.height ? cam.width : cam.height));
  select(box.crossing < F16(1.0f), radius, whole).store(out.radius);

  const F16 grow(1.0f + BOUND_SLACK_RELATIVE), slack(BOUND_SLACK_PIXELS);
  alignas(64) float m[7][LANES];
  x.store(m[0]);
  y.store(m[1]);
  fused(half_x, grow, slack).store(m[2]);
  fused(half_y, grow, slack).store(m[3]);
  slope.store(m[4]);
  (chord + fused(half_x, F16(BOUND_SLACK_RELATIVE), slack)).store(m[5]);
  fused(disc, grow, slack).store(m[6]);
  for (int i = 0; i < LANES; ++i)
    out.shape[i] = {m[0][i], m[1][i], m[2][i], m[3][i], m[4][i], m[5][i], m[6][i], 0.0f};
}

// First and one past the last tile along one axis; false where no pixel centre lies inside.
IQGS_INLINE bool tile_span(float low, float high, float slack, int pixels, uint16_t& first,
                           uint16_t& last) {
  const float limit = static_cast<float>(pixels - 1);
  float begin = __builtin_ceilf(low - 0.5f), end = __builtin_floorf(high - 0.5f);
  begin = begin > 0.0f ? begin : 0.0f;
  end = end < limit ? end : limit;
  if (!(begin <= end)) return false;
  float wide_begin = __builtin_ceilf(low - slack - 0.5f);
  float wide_end = __builtin_floorf(high + slack - 0.5f);
  wide_begin = wide_begin > 0.0f ? wide_begin : 0.0f;
  wide_end = wide_end < limit ? wide_end : limit;
  first = static_cast<uint16_t>(static_cast<int>(wide_begin) / TILE);
  last = static_cast<uint16_t>(static_cast<int>(wide_end) / TILE + 1);
  return true;
}

// Writes the box and the radius of one splat; true where it is visible.
IQGS_INLINE bool place_splat(const ProjectParams& p, const Bounds16& b, int lane, bool supported,
                             int64_t n) {
  TileBox box = {0, 0, 0, 0};
  const Footprint& shape = b.shape[lane];
  float slack_x = BOUND_SLACK_PIXELS + BOUND_SLACK_RELATIVE * shape.half_x;
  float slack_y = BOUND_SLACK_PIXELS + BOUND_SLACK_RELATIVE * shape.half_y;
  bool visible =
      supported &&
      tile_span(b.low_x[lane], b.high_x[lane], slack_x, p.camera.width, box.x0, box.x1) &&
      tile_span(b.low_y[lane], b.high_y[lane], slack_y, p.camera.height, box.y0, box.y1);
  if (!visible) box = {0, 0, 0, 0};
  p.boxes[n] = box;
  const float limit = 1073741824.0f;  // 2^30 stays inside int32 for degenerate boxes
  float radius = __builtin_ceilf(b.radius[lane]);
  p.radii[n] = visible ? static_cast<int32_t>(radius < limit ? radius : limit) : 0;
  if (visible) p.footprints[n] = shape;
  return visible;
}

IQGS_INLINE Vec3<F16> view_directions(const Camera& cam, const Vec3<F16>& mean,
                                      F16& inverse_length) {
  Vec3<F16> eye = {F16(cam.center[0]), F16(cam.center[1]), F16(cam.center[2])};
  Vec3<F16> d = mean - eye;
  inverse_length = F16(1.0f) / larger(root(dot(d, d)), F16(1e-12f));
  return d * inverse_length;
}

// Colours of the visible splats among sixteen: half + sum of basis times coefficients, at least 0.
IQGS_PHASE void color_splats(const ProjectParams& p, const Vec3<F16>& mean, int64_t first,
                             uint32_t visible) {
  F16 inverse_length;
  Vec3<F16> direction = view_directions(p.camera, mean, inverse_length);
  F16 basis[MAX_SH_COEFFICIENTS];
  sh_basis(direction, p.sh_degree, basis);
  const int used = sh_coefficients(p.sh_degree);
  alignas(64) float b[MAX_SH_COEFFICIENTS][LANES];
  for (int k = 0; k < used; ++k) basis[k].store(b[k]);
  for (; visible; visible &= visible - 1) {
    int lane = __builtin_ctz(visible);
    int64_t n = first + lane;
    const float* sh = p.sh + n * p.sh_stride * 3;
    float rgb[3] = {0.5f, 0.5f, 0.5f};
    for (int k = 0; k < used; ++k)
      for (int c = 0; c < 3; ++c) rgb[c] += b[k][lane] * sh[3 * k + c];
    for (int c = 0; c < 3; ++c) p.shades[n].color[c] = rgb[c] > 0.0f ? rgb[c] : 0.0f;
  }
}

// Writes records and shades of the visible splats among sixteen.
IQGS_PHASE void write_splats(const ProjectParams& p, const SplatView<D16>& v, int64_t first,
                             uint32_t visible) {
  alignas(64) float m[RECORD_FLOATS + 3][LANES];
  D16 whole_x = widen(narrow(v.x)), whole_y = widen(narrow(v.y));
  const D16 x_rest = v.x - whole_x, y_rest = v.y - whole_y, inverse = D16(1.0) / v.depth;
  const D16* fields[RECORD_FLOATS + 3] = {
      &v.x,    &v.y,     &v.a,        &v.b,        &v.c,        &v.d,        &v.e,
      &v.f,    &v.depth, &v.opacity,  &v.cut,      &v.anchor_x, &v.anchor_y, &x_rest,
      &y_rest, &inverse, &v.normal.x, &v.normal.y, &v.normal.z};
#pragma GCC unroll 1
  for (int k = 0; k < RECORD_FLOATS + 3; ++k) fields[k]->store(m[k]);
  for (; visible; visible &= visible - 1) {
    const int lane = __builtin_ctz(visible);
    const int64_t n = first + lane;
    float* record = reinterpret_cast<float*>(p.records + n);
    for (int k = 0; k < RECORD_FLOATS; ++k) record[k] = m[k][lane];
    SplatShade& shade = p.shades[n];
    for (int c = 0; c < 3; ++c) shade.normal[c] = m[RECORD_FLOATS + c][lane];
    if (p.colors)
      for (int c = 0; c < 3; ++c) shade.color[c] = p.colors[3 * n + c];
    shade.unused[0] = shade.unused[1] = 0.0f;
  }
}

void project(const ProjectParams& p, int64_t first_splat, int64_t last_splat, Arena&) {
  for (int64_t first = first_splat; first < last_splat; first += LANES) {
    SplatInput<D16> s = gather_splats(p, first);
    SplatFrame<D16> f = splat_frame(p.camera, s);
    SplatView<D16> v = splat_view(p.camera, f, s.opacity);
    uint32_t supported = splats_alive(p.camera, f) & lane_bits(narrow(v.cut) >= F16(0.0f));
    Bounds16 bounds;
    bound_splats(p.camera, f, v, bounds);
    uint32_t visible = 0;
    for (int i = 0; i < LANES && first + i < last_splat; ++i)
      if (place_splat(p, bounds, i, (supported >> i) & 1u, first + i)) visible |= 1u << i;
    if (!visible) continue;
    write_splats(p, v, first, visible);
    if (p.sh) color_splats(p, narrow(s.mean), first, visible);
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
