// SPDX-License-Identifier: Apache-2.0
// Splats to records, footprints, tile boxes, radii and colours: sixteen splats at a time.
#pragma once

#include "../common/ellipsoid_projection.h"
#include "../common/sh_math.h"
#include "../common/surfel_projection.h"
#include "columns.h"
#include "half_planes.h"
#include "kernels.h"
#include "lanes_double.h"

namespace iqgs {
namespace IQGS_ISA {

constexpr int TILE_BITS = 4;
static_assert(1 << TILE_BITS == TILE, "shifts stand for divisions by the tile");
static_assert(sizeof(TileBox) == 8, "a box is written as two numbers");

// The splats first .. first + 15, the last one of all repeated.
template <int SCALES>
IQGS_INLINE SplatInput<D16, SCALES> gather_splats(const ProjectParams& p, int64_t first) {
  F16 mean[3], scale[SCALES], rotation[4], opacity[1];
  load_columns<3>(p.means, first, p.count, mean);
  load_columns<SCALES>(p.scales, first, p.count, scale);
  load_columns<4>(p.rotations, first, p.count, rotation);
  load_columns<1>(p.opacities, first, p.count, opacity);
  SplatInput<D16, SCALES> s;
  s.mean = {widen(mean[0]), widen(mean[1]), widen(mean[2])};
  for (int k = 0; k < SCALES; ++k) s.scale[k] = widen(scale[k]);
  s.qw = widen(rotation[0]), s.qx = widen(rotation[1]);
  s.qy = widen(rotation[2]), s.qz = widen(rotation[3]);
  s.opacity = widen(opacity[0]);
  return s;
}

template <class Projection>
IQGS_PHASE void bound_splats(const Camera& cam, const typename Projection::template Frame<D16>& f,
                             const typename Projection::template View<D16>& v,
                             SplatBounds<F16>& out) {
  out = Projection::bounds(cam, f, v, [](const D16& wide) { return narrow(wide); });
}

// `tile_span` of sixteen splats.
IQGS_INLINE Mask tile_spans(const F16& low, const F16& high, const F16& slack, int pixels,
                            I16& first, I16& last) {
  const F16 zero(0.0f), one(1.0f), half(0.5f), limit(static_cast<float>(pixels - 1));
  // Clamped before they are rounded, so that they fit an integer; above zero `up` rounds up, above
  // minus one `down` rounds down.
  auto up = [&](const F16& a) {
    const F16 clamped = smaller(larger(a, zero), limit + one);
    const F16 cut = I16::truncate(clamped).to_float();
    return cut + zero_unless(cut < clamped, one);
  };
  auto down = [&](const F16& a) {
    const F16 clamped = larger(smaller(a, limit), -one);
    const F16 cut = I16::truncate(clamped).to_float();
    return cut - zero_unless(cut > clamped, one);
  };
  const Mask hit = up(low - half) <= down(high - half);
  first = shift_right(I16::truncate(up(low - slack - half)), TILE_BITS);
  last = shift_right(I16::truncate(down(high + slack - half)), TILE_BITS) + I16(1);
  return hit;
}

// Writes boxes and radii of the splats first .. last - 1; a bit for each that is visible.
IQGS_PHASE uint32_t place_splats(const ProjectParams& p, const SplatBounds<F16>& b,
                                 uint32_t supported, int64_t first, int64_t last) {
  const F16 pixels(BOUND_SLACK_PIXELS), relative(BOUND_SLACK_RELATIVE);
  I16 x0, x1, y0, y1;
  Mask hit = lanes_of(supported);
  hit = hit & tile_spans(b.low_x, b.high_x, pixels + relative * b.half_x, p.camera.width, x0, x1);
  hit = hit & tile_spans(b.low_y, b.high_y, pixels + relative * b.half_y, p.camera.height, y0, y1);
  const I16 none(0);
  alignas(64) int32_t begin[LANES], end[LANES], radius[LANES];
  select(hit, x0 | shift_left(y0, 16), none).store(begin);
  select(hit, x1 | shift_left(y1, 16), none).store(end);
  // `whole_radius`.
  const F16 size = smaller(b.radius, F16(1073741824.0f));
  const F16 cut = I16::truncate(size).to_float();
  select(hit, I16::truncate(cut + zero_unless(cut < size, F16(1.0f))), none).store(radius);
  for (int64_t n = first; n < last; ++n) {
    const int i = static_cast<int>(n - first);
    const auto low = static_cast<uint32_t>(begin[i]), high = static_cast<uint32_t>(end[i]);
    p.boxes[n] = {static_cast<uint16_t>(low), static_cast<uint16_t>(low >> 16),
                  static_cast<uint16_t>(high), static_cast<uint16_t>(high >> 16)};
    p.radii[n] = radius[i];
  }
  const uint32_t inside = last - first < LANES ? (1u << (last - first)) - 1u : 0xffffu;
  return lane_bits(hit) & inside;
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

// Quads of four splats as rows of four numbers; those that are not visible stay unwritten.
IQGS_INLINE void write_quads(const float* const (&columns)[4], int lane, uint32_t visible,
                             float* rows, int stride) {
  Quad in[4], out[4];
  for (int c = 0; c < 4; ++c) in[c] = load_quad(columns[c] + lane);
  transpose_four(in, out);
  for (int j = 0; j < 4; ++j)
    if ((visible >> (lane + j)) & 1u) store_quad(rows + j * stride, out[j]);
}

// Writes records, footprints and shades of the visible splats among sixteen.
IQGS_PHASE void write_splats(const ProjectParams& p, const SplatView<D16>& v,
                             const SplatBounds<F16>& b, int64_t first, uint32_t visible) {
  constexpr int SHADES = RECORD_FLOATS + FOOTPRINT_FLOATS, FIELDS = SHADES + 4;
  alignas(64) float m[FIELDS][LANES];
  const F16 zero(0.0f), x = narrow(v.x), y = narrow(v.y);
  const F16 fields[FIELDS] = {
      x,
      y,
      narrow(v.a),
      narrow(v.b),
      narrow(v.c),
      narrow(v.d),
      narrow(v.e),
      narrow(v.f),
      narrow(v.depth),
      narrow(v.opacity),
      narrow(v.cut),
      narrow(v.anchor_x),
      narrow(v.anchor_y),
      narrow(v.x - widen(x)),
      narrow(v.y - widen(y)),
      narrow(D16(1.0) / v.depth),
      b.x,
      b.y,
      b.half_x,
      b.half_y,
      b.slope,
      b.chord,
      b.disc,
      zero,
      narrow(v.normal.x),
      narrow(v.normal.y),
      narrow(v.normal.z),
      zero,
  };
#pragma GCC unroll 1
  for (int k = 0; k < FIELDS; ++k) fields[k].store(m[k]);
  for (int lane = 0; lane < LANES; lane += 4) {
    if (((visible >> lane) & 15u) == 0) continue;
    for (int k = 0; k < FIELDS; k += 4) {
      const float* const columns[4] = {m[k], m[k + 1], m[k + 2], m[k + 3]};
      const int64_t n = first + lane;
      if (k < RECORD_FLOATS)
        write_quads(columns, lane, visible, &p.records[n].x + k, RECORD_FLOATS);
      else if (k < SHADES)
        write_quads(columns, lane, visible, &p.footprints[n].x + k - RECORD_FLOATS,
                    FOOTPRINT_FLOATS);
      else
        write_quads(columns, lane, visible, p.shades[n].normal, SHADE_FLOATS);
    }
  }
  for (; visible; visible &= visible - 1) {
    const int64_t n = first + __builtin_ctz(visible);
    SplatShade& shade = p.shades[n];
    if (p.colors)
      for (int c = 0; c < 3; ++c) shade.color[c] = p.colors[3 * n + c];
    shade.unused[0] = shade.unused[1] = 0.0f;
  }
}

template <class Projection>
void project(const ProjectParams& p, int64_t first_splat, int64_t last_splat, Arena&) {
  for (int64_t first = first_splat; first < last_splat; first += LANES) {
    const int64_t last = first + LANES < last_splat ? first + LANES : last_splat;
    const auto s = gather_splats<Projection::SCALES>(p, first);
    const auto f = splat_frame(p.camera, s);
    const auto v = Projection::view(p.camera, f, s.opacity);
    const uint32_t supported = lane_bits(Projection::alive(p.camera, f, v)) &
                               lane_bits(narrow(v.cut) >= F16(0.0f));
    SplatBounds<F16> bounds;
    bound_splats<Projection>(p.camera, f, v, bounds);
    const uint32_t visible = place_splats(p, bounds, supported, first, last);
    if (!visible) continue;
    write_splats(p, v, bounds, first, visible);
    for (uint32_t lanes = visible & lane_bits(unbounded(bounds.half_y)); lanes;
         lanes &= lanes - 1) {
      const int64_t n = first + __builtin_ctz(lanes);
      p.boxes[n] = unbounded_tiles(p.records[n], p.camera, p.footprints[n].disc, p.boxes[n]);
    }
    if (p.sh) color_splats(p, narrow(s.mean), first, visible);
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
