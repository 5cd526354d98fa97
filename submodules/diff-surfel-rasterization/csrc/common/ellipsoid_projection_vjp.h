// SPDX-License-Identifier: Apache-2.0
// Vector-Jacobian product of ellipsoid_projection.h: from the moments of an ellipsoid's pixels to the
// camera frame.
#pragma once

#include "ellipsoid_projection.h"
#include "projection_vjp.h"

namespace iqgs {

// Gradient with respect to the covariance on screen.
template <class R>
struct CovarianceGrad {
  R xx, xy, yy;
};

// With k = xx - xy^2/yy, s = xy/yy: a = k^-1/2, b = -s a, d = yy^-1/2.
template <class R>
SURFEL_HD CovarianceGrad<R> whitening_vjp(const EllipsoidProjection::View<R>& v, const R* m) {
  const R ga = m[M_U_DX], gb = m[M_U_DY], gd = m[M_V_DY], half(0.5f);
  const R lean = v.xy / v.yy, inverse = R(1.0f) / v.yy;
  const R g_within = -(half * v.a * v.a * v.a * fused(-lean, gb, ga));
  const R g_lean = -(v.a * gb) * inverse;
  return {g_within, fused(R(-2.0f) * lean, g_within, g_lean),
          lean * fused(lean, g_within, -g_lean) - half * v.d * v.d * v.d * gd};
}

// `normal`: gradient of the normal that faces the camera.
template <class R, class C>
SURFEL_HD FrameGrad<R, 3> frame_grad(EllipsoidProjection, const CameraOf<C>& cam,
                                     const EllipsoidProjection::Frame<R>& f,
                                     const EllipsoidProjection::View<R>& v, const R* m,
                                     const Vec3<R>& normal) {
  const R zero(0.0f), one(1.0f), two(2.0f);
  const Vec3<R>& p = f.center;
  const Perspective<R> j = perspective_at(cam, p);
  const CovarianceGrad<R> g = whitening_vjp(v, m);
  const Vec3<R> n = normal * v.side;
  FrameGrad<R, 3> r;
  r.tangent_u = n * v.shortest_u;
  r.tangent_v = n * v.shortest_v;
  r.normal = n * (one - v.shortest_u - v.shortest_v);
  R g_slope_x = zero, g_slope_y = zero, g_shrink = zero;  // shrink: z dL/dz of the scales fx / z
  SURFEL_UNROLL
  for (int k = 0; k < 3; ++k) {
    const Vec3<R> axis = EllipsoidProjection::axis(f, k);
    const R x = j.scale_x * fused(-j.slope_x, axis.z, axis.x);
    const R y = j.scale_y * fused(-j.slope_y, axis.z, axis.y);
    const R gx = fused(two * g.xx, x, g.xy * y), gy = fused(g.xy, x, two * g.yy * y);
    const R in_x = j.scale_x * gx, in_y = j.scale_y * gy;
    const Vec3<R> grad = {in_x, in_y, -fused(in_x, j.slope_x, in_y * j.slope_y)};
    g_slope_x = fused(-in_x, axis.z, g_slope_x);
    g_slope_y = fused(-in_y, axis.z, g_slope_y);
    g_shrink = g_shrink - fused(gx, x, gy * y);
    const Vec3<R>& unit = k == 0 ? f.tangent_u : k == 1 ? f.tangent_v : f.normal;
    Vec3<R>& to = k == 0 ? r.tangent_u : k == 1 ? r.tangent_v : r.normal;
    r.scale[k] = dot(grad, unit);
    to = to + grad * f.scale[k];
  }
  // Projected centre: dx = pixel - x. The slopes follow the centre where they are not at a limit.
  const R gx = -(v.a * m[M_U]), gy = -fused(v.b, m[M_U], v.d * m[M_V]);
  const R sx = fused(j.free_x, g_slope_x, gx * R(cam.fx)) * j.inverse;
  const R sy = fused(j.free_y, g_slope_y, gy * R(cam.fy)) * j.inverse;
  r.center = {sx, sy, m[M_DEPTH] + (g_shrink - fused(sx, p.x, sy * p.y)) * j.inverse};
  return r;
}

}  // namespace iqgs
