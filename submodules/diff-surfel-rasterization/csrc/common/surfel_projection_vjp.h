// SPDX-License-Identifier: Apache-2.0
// Vector-Jacobian products of surfel_projection.h: from the moments of a disc's pixels to the camera
// frame.
#pragma once

#include "projection_vjp.h"
#include "surfel_projection.h"

namespace iqgs {

// Adds the gradient of the coefficients a .. f, of the projected centre and of the depth.
template <class R, class C>
SURFEL_HD void disc_vjp(const CameraOf<C>& cam, const SurfelProjection::Frame<R>& f, const SurfelProjection::View<R>& r,
                        const R* m, FrameGrad<R, 2>& g) {
  const Vec3<R>& p = f.center;
  const R zero(0.0f);
  R ga = m[M_U_DX], gb = m[M_U_DY], gc = m[M_V_DX], gd = m[M_V_DY];
  R ge = m[M_W_DX], gf = m[M_W_DY];
  R au = fused(ga, r.a, gb * r.b), cv = fused(gc, r.c, gd * r.d);
  g.scale[0] = g.scale[0] - au / f.scale[0];
  g.scale[1] = g.scale[1] - cv / f.scale[1];
  // All six are proportional to k = z / facing.
  R k = p.z / r.facing;
  R gk_times_k = au + cv + fused(ge, r.e, gf * r.f);
  R g_facing = -(gk_times_k / r.facing);
  R kx = k * R(inverse_of(cam.fx)), ky = k * R(inverse_of(cam.fy));
  R iu = R(1.0f) / f.scale[0], iv = R(1.0f) / f.scale[1];
  Vec3<R> g_across = {ga * kx * iu, gb * ky * iu, zero};
  Vec3<R> g_along = {gc * kx * iv, gd * ky * iv, zero};
  g.tangent_v = g.tangent_v + cross(p, g_across);
  g.tangent_u = g.tangent_u + cross(g_along, p);
  g.center = g.center + cross(g_across, f.tangent_v) + cross(f.tangent_u, g_along);
  g.normal = g.normal + p * g_facing;
  g.normal.x = fused(ge, kx, g.normal.x);
  g.normal.y = fused(gf, ky, g.normal.y);
  g.center = g.center + f.normal * g_facing;
  // Projected centre: dx = pixel - x, and the anchor where it is the same point.
  R inverse = R(1.0f) / p.z;
  R gx = m[M_ANCHOR_X] - fused(r.a, m[M_U], fused(r.c, m[M_V], r.e * m[M_W]));
  R gy = m[M_ANCHOR_Y] - fused(r.b, m[M_U], fused(r.d, m[M_V], r.f * m[M_W]));
  R sx = gx * R(cam.fx) * inverse, sy = gy * R(cam.fy) * inverse;
  g.center.x = g.center.x + sx;
  g.center.y = g.center.y + sy;
  g.center.z = g.center.z + m[M_DEPTH] + gk_times_k * inverse - fused(sx, p.x, sy * p.y) * inverse;
}

// Adds the gradient of the offset of the 3 sigma box's centre from the projected centre.
template <class R, class C>
SURFEL_HD void box_anchor_vjp(const CameraOf<C>& cam, const SurfelProjection::Frame<R>& f, const R& grad_x,
                              const R& grad_y, FrameGrad<R, 2>& g) {
  const R rho(BOX_SIGMAS * BOX_SIGMAS);
  const Vec3<R>& p = f.center;
  CenteredAxes<R> m = centered_axes(cam, f);
  Ellipse<R> q = ellipse_at(m, p.z, rho);
  auto exists = q.crossing < R(1.0f);
  R gx = select(exists, grad_x, R(0.0f)), gy = select(exists, grad_y, R(0.0f));
  R denominator = rho * fused(m.uz, m.uz, m.vz * m.vz) - p.z * p.z;
  R k = rho / denominator;
  R px = k * gx, py = k * gy;
  R scale = -(fused(gx, q.offset_x, gy * q.offset_y) / denominator);
  Vec3<R> gu = {px * m.uz, py * m.uz, fused(px, m.ux, py * m.uy) + R(2.0f) * rho * scale * m.uz};
  Vec3<R> gv = {px * m.vz, py * m.vz, fused(px, m.vx, py * m.vy) + R(2.0f) * rho * scale * m.vz};
  // ux = fx (tangent.x - slope_x tangent.z), slope_x = center.x / center.z, and so on.
  R inverse = R(1.0f) / p.z;
  R slope_x = p.x * inverse, slope_y = p.y * inverse;
  gu = {gu.x * R(cam.fx), gu.y * R(cam.fy), gu.z};
  gv = {gv.x * R(cam.fx), gv.y * R(cam.fy), gv.z};
  R g_slope_x = -(fused(gu.x, m.uz, gv.x * m.vz));
  R g_slope_y = -(fused(gu.y, m.uz, gv.y * m.vz));
  gu.z = gu.z - fused(gu.x, slope_x, gu.y * slope_y);
  gv.z = gv.z - fused(gv.x, slope_x, gv.y * slope_y);
  g.center.x = g.center.x + g_slope_x * inverse;
  g.center.y = g.center.y + g_slope_y * inverse;
  g.center.z =
      g.center.z - R(2.0f) * scale * p.z - fused(g_slope_x, slope_x, g_slope_y * slope_y) * inverse;
  g.tangent_u = g.tangent_u + gu * f.scale[0];
  g.tangent_v = g.tangent_v + gv * f.scale[1];
  g.scale[0] = g.scale[0] + dot(gu, f.tangent_u);
  g.scale[1] = g.scale[1] + dot(gv, f.tangent_v);
}

// `normal`: gradient of the normal that faces the camera.
template <class R, class C>
SURFEL_HD FrameGrad<R, 2> frame_grad(SurfelProjection, const CameraOf<C>& cam,
                                     const SurfelProjection::Frame<R>& f,
                                     const SurfelProjection::View<R>& v, const R* m,
                                     const Vec3<R>& normal) {
  const R zero(0.0f);
  const R side = select(v.facing > zero, R(-1.0f), R(1.0f));
  FrameGrad<R, 2> g = {{zero, zero, zero},
                       {zero, zero, zero},
                       {zero, zero, zero},
                       {normal.x * side, normal.y * side, normal.z * side},
                       {zero, zero}};
  disc_vjp(cam, f, v, m, g);
  if (cam.aabb_anchor) box_anchor_vjp(cam, f, m[M_ANCHOR_X], m[M_ANCHOR_Y], g);
  return g;
}

}  // namespace iqgs
