// SPDX-License-Identifier: Apache-2.0
// Vector-Jacobian product of projection_math.h: from the camera frame to the parameters of a splat.
#pragma once

#include "projection_math.h"

namespace iqgs {

// Gradient with respect to the splat in the camera frame.
template <class R, int SCALES>
struct FrameGrad {
  Vec3<R> center, tangent_u, tangent_v, normal;
  R scale[SCALES];
};

// Gradient with respect to the parameters.
template <class R, int SCALES>
struct SplatGrad {
  Vec3<R> mean;
  R scale[SCALES];
  R qw, qx, qy, qz;
};

// From the camera frame to the parameters, through the quaternion's normalisation.
template <class R, int SCALES, class C>
SURFEL_HD SplatGrad<R, SCALES> frame_vjp(const CameraOf<C>& cam, const SplatFrame<R, SCALES>& f,
                                         const FrameGrad<R, SCALES>& g) {
  SplatGrad<R, SCALES> r;
  r.mean = rotate_back(cam.rotation, g.center);
  SURFEL_UNROLL
  for (int k = 0; k < SCALES; ++k) r.scale[k] = g.scale[k] * R(cam.scale_modifier);
  // Columns of dL/dR in the world.
  Vec3<R> u = rotate_back(cam.rotation, g.tangent_u);
  Vec3<R> v = rotate_back(cam.rotation, g.tangent_v);
  Vec3<R> n = rotate_back(cam.rotation, g.normal);
  const R w = f.qw, x = f.qx, y = f.qy, z = f.qz, two(2.0f);
  R skew_x = v.z - n.y, skew_y = n.x - u.z, skew_z = u.y - v.x;
  R sum_xy = u.y + v.x, sum_xz = u.z + n.x, sum_yz = v.z + n.y;
  R gw = two * fused(x, skew_x, fused(y, skew_y, z * skew_z));
  R gx = two * (fused(w, skew_x, fused(y, sum_xy, z * sum_xz)) - two * x * (v.y + n.z));
  R gy = two * (fused(w, skew_y, fused(x, sum_xy, z * sum_yz)) - two * y * (u.x + n.z));
  R gz = two * (fused(w, skew_z, fused(x, sum_xz, y * sum_yz)) - two * z * (u.x + v.y));
  R radial = fused(gw, w, fused(gx, x, fused(gy, y, gz * z)));
  r.qw = (gw - radial * w) * f.inverse_length;
  r.qx = (gx - radial * x) * f.inverse_length;
  r.qy = (gy - radial * y) * f.inverse_length;
  r.qz = (gz - radial * z) * f.inverse_length;
  return r;
}

}  // namespace iqgs
