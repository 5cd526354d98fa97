// SPDX-License-Identifier: Apache-2.0
// From a flat Gaussian (2DGS) in the camera frame to its record and footprint.
#pragma once

#include "bounds_math.h"
#include "projection_math.h"
#include "surfel_math.h"

namespace iqgs {

// Image of the circle u^2 + v^2 = rho: centre relative to the projected centre, covariance.
template <class R>
struct Ellipse {
  R offset_x, offset_y;
  R xx, xy, yy;
  R crossing;  // rho |M_w|^2 / z^2; the disc crosses the camera plane at 1 and above
};

// The first two columns of the ray transform, x and y relative to the projected centre.
template <class R>
struct CenteredAxes {
  R ux, uy, uz, vx, vy, vz;
};

template <class R, class C>
SURFEL_HD CenteredAxes<R> centered_axes(const CameraOf<C>& cam, const SplatFrame<R, 2>& f) {
  R inverse = R(1.0f) / f.center.z;
  R slope_x = f.center.x * inverse, slope_y = f.center.y * inverse;
  Vec3<R> u = f.tangent_u * f.scale[0], v = f.tangent_v * f.scale[1];
  return {R(cam.fx) * fused(-slope_x, u.z, u.x), R(cam.fy) * fused(-slope_y, u.z, u.y), u.z,
          R(cam.fx) * fused(-slope_x, v.z, v.x), R(cam.fy) * fused(-slope_y, v.z, v.y), v.z};
}

template <class R>
SURFEL_HD Ellipse<R> ellipse_at(const CenteredAxes<R>& m, const R& depth, const R& rho) {
  Ellipse<R> q;
  R depth2 = depth * depth;
  R tilt = rho * fused(m.uz, m.uz, m.vz * m.vz);
  q.crossing = tilt / depth2;
  R k = rho / (tilt - depth2);
  q.offset_x = k * fused(m.ux, m.uz, m.vx * m.vz);
  q.offset_y = k * fused(m.uy, m.uz, m.vy * m.vz);
  q.xx = fused(q.offset_x, q.offset_x, -(k * fused(m.ux, m.ux, m.vx * m.vx)));
  q.xy = fused(q.offset_x, q.offset_y, -(k * fused(m.ux, m.uy, m.vx * m.vy)));
  q.yy = fused(q.offset_y, q.offset_y, -(k * fused(m.uy, m.uy, m.vy * m.vy)));
  return q;
}

// `axes`, depth, centre and anchor as in SplatView; `cut` may be negative.
template <class R, class C>
SURFEL_HD SplatBounds<R> disc_bounds(const CameraOf<C>& cam, const CenteredAxes<R>& axes,
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

struct SurfelProjection {
  using Pixels = Surfel;
  static constexpr int SCALES = 2;
  template <class R>
  using Frame = SplatFrame<R, SCALES>;
  // How much the normal looks away from the camera, times the distance of the centre.
  template <class R>
  struct View : SplatView<R> {
    R facing;
  };

  // Projected centre, adjugate coefficients, normal, cut-off. Valid where the splat is `alive`.
  template <class R, class C>
  SURFEL_HD static View<R> view(const CameraOf<C>& cam, const Frame<R>& f, const R& opacity) {
    View<R> r;
    const Vec3<R>& p = f.center;
    r.facing = dot(f.normal, f.center);
    R inverse = R(1.0f) / p.z;
    r.x = fused(R(cam.fx) * p.x, inverse, R(cam.cx));
    r.y = fused(R(cam.fy) * p.y, inverse, R(cam.cy));
    R k = p.z / r.facing;
    R kx = k * R(inverse_of(cam.fx)), ky = k * R(inverse_of(cam.fy));
    Vec3<R> across = cross(f.tangent_v, p), along = cross(p, f.tangent_u);
    R iu = R(1.0f) / f.scale[0], iv = R(1.0f) / f.scale[1];
    r.a = kx * across.x * iu;
    r.b = ky * across.y * iu;
    r.c = kx * along.x * iv;
    r.d = ky * along.y * iv;
    r.e = kx * f.normal.x;
    r.f = ky * f.normal.y;
    r.depth = p.z;
    r.opacity = opacity;
    r.cut = support_cut(opacity);
    r.normal = facing_camera(f.normal, r.facing > R(0.0f));
    r.anchor_x = R(0.0f);
    r.anchor_y = R(0.0f);
    if (!cam.aabb_anchor) return r;
    // A disc that crosses the camera plane has no box: its projected centre serves.
    Ellipse<R> box = ellipse_at(centered_axes(cam, f), p.z, R(BOX_SIGMAS * BOX_SIGMAS));
    auto exists = box.crossing < R(1.0f);
    r.anchor_x = select(exists, box.offset_x, r.anchor_x);
    r.anchor_y = select(exists, box.offset_y, r.anchor_y);
    return r;
  }

  // In front of the near plane and not edge-on.
  template <class R, class C>
  SURFEL_HD static auto alive(const CameraOf<C>& cam, const Frame<R>& f, const View<R>& v) {
    const R limit = R(EDGE_ON_COSINE * EDGE_ON_COSINE) * dot(f.center, f.center);
    return both(f.center.z > R(cam.near), v.facing * v.facing > limit);
  }

  // `narrow` brings numbers to the precision of the bounds.
  template <class R, class C, class Narrow>
  SURFEL_HD static auto bounds(const CameraOf<C>& cam, const Frame<R>& f, const View<R>& v,
                               const Narrow& narrow) {
    const CenteredAxes<R> m = centered_axes(cam, f);
    using F = decltype(narrow(m.ux));
    const CenteredAxes<F> axes = {narrow(m.ux), narrow(m.uy), narrow(m.uz),
                                  narrow(m.vx), narrow(m.vy), narrow(m.vz)};
    const F depth = narrow(v.depth);
    const Vec3<F> center = {narrow(v.x), narrow(v.y), depth};
    const Vec3<F> anchor = {narrow(v.x + v.anchor_x), narrow(v.y + v.anchor_y), depth};
    return disc_bounds(cam, axes, depth, center, anchor, narrow(v.cut));
  }
};

}  // namespace iqgs
