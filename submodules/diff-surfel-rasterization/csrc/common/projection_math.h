// SPDX-License-Identifier: Apache-2.0
// From a splat's parameters to its record and footprint, and the vector-Jacobian product back.
// R is the number of one splat (float, double) or of many (vector lanes); there are no branches.
#pragma once

#include "constants.h"
#include "params.h"
#include "scalar.h"

namespace iqgs {

template <class R>
struct SplatInput {
  Vec3<R> mean;
  R scale_u, scale_v;
  R qw, qx, qy, qz;
  R opacity;
};

// The splat in the camera frame.
template <class R>
struct SplatFrame {
  Vec3<R> center, tangent_u, tangent_v, normal;  // the normal is not flipped yet
  R scale_u, scale_v;                            // with the modifier
  R facing;                                      // normal . center
  R qw, qx, qy, qz, inverse_length;              // unit quaternion, 1 / |given quaternion|
};

template <class R>
SURFEL_HD Vec3<R> rotate(const double* m, const Vec3<R>& v) {
  return {fused(R(m[0]), v.x, fused(R(m[1]), v.y, R(m[2]) * v.z)),
          fused(R(m[3]), v.x, fused(R(m[4]), v.y, R(m[5]) * v.z)),
          fused(R(m[6]), v.x, fused(R(m[7]), v.y, R(m[8]) * v.z))};
}

template <class R>
SURFEL_HD Vec3<R> rotate_back(const double* m, const Vec3<R>& v) {
  return {fused(R(m[0]), v.x, fused(R(m[3]), v.y, R(m[6]) * v.z)),
          fused(R(m[1]), v.x, fused(R(m[4]), v.y, R(m[7]) * v.z)),
          fused(R(m[2]), v.x, fused(R(m[5]), v.y, R(m[8]) * v.z))};
}

template <class R>
SURFEL_HD SplatFrame<R> splat_frame(const Camera& cam, const SplatInput<R>& s) {
  SplatFrame<R> f;
  const R one(1.0f), two(2.0f);
  R length2 = fused(s.qw, s.qw, fused(s.qx, s.qx, fused(s.qy, s.qy, s.qz * s.qz)));
  f.inverse_length = one / root(larger(length2, R(1e-30f)));
  const R w = s.qw * f.inverse_length, x = s.qx * f.inverse_length;
  const R y = s.qy * f.inverse_length, z = s.qz * f.inverse_length;
  f.qw = w, f.qx = x, f.qy = y, f.qz = z;
  Vec3<R> u = {one - two * fused(y, y, z * z), two * fused(x, y, w * z),
               two * fused(x, z, -(w * y))};
  Vec3<R> v = {two * fused(x, y, -(w * z)), one - two * fused(x, x, z * z),
               two * fused(y, z, w * x)};
  Vec3<R> n = {two * fused(x, z, w * y), two * fused(y, z, -(w * x)),
               one - two * fused(x, x, y * y)};
  f.tangent_u = rotate(cam.rotation, u);
  f.tangent_v = rotate(cam.rotation, v);
  f.normal = rotate(cam.rotation, n);
  Vec3<R> shift = {R(cam.translation[0]), R(cam.translation[1]), R(cam.translation[2])};
  f.center = rotate(cam.rotation, s.mean) + shift;
  f.scale_u = s.scale_u * R(cam.scale_modifier);
  f.scale_v = s.scale_v * R(cam.scale_modifier);
  f.facing = dot(f.normal, f.center);
  return f;
}

// Same fields as SplatRecord, in R, and the normal facing the camera.
template <class R>
struct SplatView {
  R x, y, a, b, c, d, e, f, depth, opacity, cut, anchor_x, anchor_y;
  Vec3<R> normal;
};

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

template <class R>
SURFEL_HD CenteredAxes<R> centered_axes(const Camera& cam, const SplatFrame<R>& f) {
  R inverse = R(1.0f) / f.center.z;
  R slope_x = f.center.x * inverse, slope_y = f.center.y * inverse;
  Vec3<R> u = f.tangent_u * f.scale_u, v = f.tangent_v * f.scale_v;
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

// Projected centre, adjugate coefficients, normal, cut-off. Valid where `center.z` is positive
// and `facing` is not zero.
template <class R>
SURFEL_HD SplatView<R> splat_view(const Camera& cam, const SplatFrame<R>& f, const R& opacity) {
  SplatView<R> r;
  const Vec3<R>& p = f.center;
  R inverse = R(1.0f) / p.z;
  r.x = fused(R(cam.fx) * p.x, inverse, R(cam.cx));
  r.y = fused(R(cam.fy) * p.y, inverse, R(cam.cy));
  R k = p.z / f.facing;
  R kx = k * R(1.0 / cam.fx), ky = k * R(1.0 / cam.fy);
  Vec3<R> across = cross(f.tangent_v, p), along = cross(p, f.tangent_u);
  R iu = R(1.0f) / f.scale_u, iv = R(1.0f) / f.scale_v;
  r.a = kx * across.x * iu;
  r.b = ky * across.y * iu;
  r.c = kx * along.x * iv;
  r.d = ky * along.y * iv;
  r.e = kx * f.normal.x;
  r.f = ky * f.normal.y;
  r.depth = p.z;
  r.opacity = opacity;
  r.cut = R(2.0f) * natural_log(larger(opacity, R(1e-30f)) * R(1.0f / SUPPORT_ALPHA));
  auto away = f.facing > R(0.0f);
  r.normal = {select(away, -f.normal.x, f.normal.x), select(away, -f.normal.y, f.normal.y),
              select(away, -f.normal.z, f.normal.z)};
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

}  // namespace iqgs
