// SPDX-License-Identifier: Apache-2.0
// From a splat's parameters to the camera frame, whatever its kind. What follows differs: a kind's
// projection is a struct of static functions that the kernels take as template parameter,
// `SurfelProjection` or `EllipsoidProjection`:
//
//   Pixels       how pixels meet it, see pixel_math.h
//   SCALES       standard deviations that a splat has
//   View<R>      its record and more, see SplatView
//   view         the view of a splat
//   alive        whether its record means something
//   bounds       where it can contribute
//   frame_grad   (in the headers of the derivatives) from moments back to the camera frame
//
// R is the number of one splat (float, double, Twofold) or of many (vector lanes); there are no
// branches. C is the number of the camera.
#pragma once

#include "constants.h"
#include "params.h"
#include "scalar.h"

namespace iqgs {

template <class R, int SCALES>
struct SplatInput {
  Vec3<R> mean;
  R scale[SCALES];
  R qw, qx, qy, qz;
  R opacity;
};

// The splat in the camera frame.
template <class R, int SCALES>
struct SplatFrame {
  Vec3<R> center, tangent_u, tangent_v, normal;  // the normal is not flipped yet
  R scale[SCALES];                               // with the modifier
  R qw, qx, qy, qz, inverse_length;              // unit quaternion, 1 / |given quaternion|
};

template <class R, class C>
SURFEL_HD Vec3<R> rotate(const C* m, const Vec3<R>& v) {
  return {fused(R(m[0]), v.x, fused(R(m[1]), v.y, R(m[2]) * v.z)),
          fused(R(m[3]), v.x, fused(R(m[4]), v.y, R(m[5]) * v.z)),
          fused(R(m[6]), v.x, fused(R(m[7]), v.y, R(m[8]) * v.z))};
}

template <class R, class C>
SURFEL_HD Vec3<R> rotate_back(const C* m, const Vec3<R>& v) {
  return {fused(R(m[0]), v.x, fused(R(m[3]), v.y, R(m[6]) * v.z)),
          fused(R(m[1]), v.x, fused(R(m[4]), v.y, R(m[7]) * v.z)),
          fused(R(m[2]), v.x, fused(R(m[5]), v.y, R(m[8]) * v.z))};
}

template <class R, int SCALES, class C>
SURFEL_HD SplatFrame<R, SCALES> splat_frame(const CameraOf<C>& cam,
                                            const SplatInput<R, SCALES>& s) {
  SplatFrame<R, SCALES> f;
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
  SURFEL_UNROLL
  for (int k = 0; k < SCALES; ++k) f.scale[k] = s.scale[k] * R(cam.scale_modifier);
  return f;
}

// Same fields as SplatRecord, in R, and the normal facing the camera.
template <class R>
struct SplatView {
  R x, y, a, b, c, d, e, f, depth, opacity, cut, anchor_x, anchor_y;
  Vec3<R> normal;
};

// Squared distance, in standard deviations, beyond which alpha is too faint; negative where it is
// everywhere.
template <class R>
SURFEL_HD R support_cut(const R& opacity) {
  return R(2.0f) * natural_log(larger(opacity, R(1e-30f)) * R(1.0f / SUPPORT_ALPHA));
}

// The same direction, or its opposite where it looks away; `away`: it does.
template <class R, class M>
SURFEL_HD Vec3<R> facing_camera(const Vec3<R>& n, const M& away) {
  return {select(away, -n.x, n.x), select(away, -n.y, n.y), select(away, -n.z, n.z)};
}

}  // namespace iqgs
