// SPDX-License-Identifier: Apache-2.0
// Splats to records, footprints, tile boxes, radii and colours: sixteen splats at a time.
#pragma once

#include "../common/bounds_math.h"
#include "../common/sh_math.h"
#include "columns.h"
#include "kernels.h"
#include "lanes_double.h"

namespace iqgs {
namespace IQGS_ISA {

// The splats first .. first + 15, the last one of all repeated.
IQGS_INLINE SplatInput<D16> gather_splats(const ProjectParams& p, int64_t first) {
  F16 mean[3], scale[2], rotation[4], opacity[1];
  load_columns<3>(p.means, first, p.count, mean);
  load_columns<2>(p.scales, first, p.count, scale);
  load_columns<4>(p.rotations, first, p.count, rotation);
  load_columns<1>(p.opacities, first, p.count, opacity);
  return {{widen(mean[0]), widen(mean[1]), widen(mean[2])},
          widen(scale[0]),
          widen(scale[1]),
          widen(rotation[0]),
          widen(rotation[1]),
          widen(rotation[2]),
          widen(rotation[3]),
          widen(opacity[0])};
}

// In front of the near plane and not edge-on: the splats whose record means something.
IQGS_INLINE uint32_t splats_alive(const Camera& cam, const SplatFrame<D16>& f) {
  D16 limit = D16(EDGE_ON_COSINE * EDGE_ON_COSINE) * dot(f.center, f.center);
  return lane_bits(f.center.z > D16(cam.near)) & lane_bits(f.facing * f.facing > limit);
}

// Bounds of sixteen splats, one array per number in the order of SplatBounds.
struct Bounds16 {
  alignas(64) float m[12][LANES];
  IQGS_INLINE SplatBounds<float> lane(int i) const {
    return {m[0][i], m[1][i], m[2][i], m[3][i], m[4][i],  m[5][i],
            m[6][i], m[7][i], m[8][i], m[9][i], m[10][i], m[11][i]};
  }
};

IQGS_PHASE void bound_splats(const Camera& cam, const SplatFrame<D16>& f, const SplatView<D16>& v,
                             Bounds16& out) {
  CenteredAxes<D16> wide = centered_axes(cam, f);
  CenteredAxes<F16> axes = {narrow(wide.ux), narrow(wide.uy), narrow(wide.uz),
                            narrow(wide.vx), narrow(wide.vy), narrow(wide.vz)};
  const F16 depth = narrow(v.depth);
  const Vec3<F16> center = {narrow(v.x), narrow(v.y), depth};
  const Vec3<F16> anchor = {narrow(v.x + v.anchor_x), narrow(v.y + v.anchor_y), depth};
  const SplatBounds<F16> b = splat_bounds(cam, axes, depth, center, anchor, narrow(v.cut));
  const F16* fields[12] = {&b.x,    &b.y,     &b.half_x, &b.half_y, &b.slope,  &b.chord,
                           &b.disc, &b.low_x, &b.low_y,  &b.high_x, &b.high_y, &b.radius};
  for (int k = 0; k < 12; ++k) fields[k]->store(out.m[k]);
}

// Writes the box and the radius of one splat; true where it is visible.
IQGS_INLINE bool place_splat(const ProjectParams& p, const Bounds16& bounds, int lane,
                             bool supported, int64_t n) {
  const SplatBounds<float> b = bounds.lane(lane);
  const TileBox box = supported ? tile_box(p.camera, b) : TileBox{0, 0, 0, 0};
  const bool visible = box.x1 > box.x0;
  p.boxes[n] = box;
  p.radii[n] = visible ? whole_radius(b.radius) : 0;
  if (visible) p.footprints[n] = {b.x, b.y, b.half_x, b.half_y, b.slope, b.chord, b.disc, 0.0f};
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
