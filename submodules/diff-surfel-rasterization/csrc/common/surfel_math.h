// SPDX-License-Identifier: Apache-2.0
// One pixel meets one splat: intersection, weight, distortion, and their vector-Jacobian products.
// R is the number of one pixel (float, double) or of many (vector lanes); there are no branches.
#pragma once

#include "constants.h"
#include "params.h"
#include "scalar.h"

namespace iqgs {

// What pixels need to know beside the splats.
struct PixelOptions {
  float inverse_near;  // nearer intersections are dropped
  float distortion;    // k = far near / (far - near) of the distortion's depth mapping
  float shift;         // added to mapped depths: any number gives the same distortion, one close
                       // to them keeps its digits
  bool center_depth;   // see Camera
  bool box_anchor;     // the low-pass disc is not at the projected centre
};

SURFEL_HD PixelOptions pixel_options(const Camera& camera, const SplatRecord& first) {
  const float k = camera.far * camera.near / (camera.far - camera.near);
  return {1.0f / camera.near, k, k * first.inverse_depth, camera.center_depth, camera.aabb_anchor};
}

// Where the ray of a pixel meets the plane of a splat (2DGS Eq. 8-10 in centred, adjugate form).
template <class R>
struct Hit {
  R dx, dy;                // pixel minus projected centre
  R anchor_dx, anchor_dy;  // pixel minus centre of the low-pass disc
  R u, v;                  // coordinates on the splat, in standard deviations
  R ratio, inverse;        // depth of centre / depth of intersection, and 1 / ratio
  R rho_hit, rho_disc;     // u^2 + v^2, and 2 distance^2 to the anchor
};

template <class R>
SURFEL_HD Hit<R> intersect(const SplatRecord& s, const PixelOptions& o, const R& px, const R& py) {
  Hit<R> h;
  h.dx = px - R(s.x);
  h.dy = py - R(s.y);
  h.anchor_dx = o.box_anchor ? h.dx - R(s.anchor_x) : h.dx;
  h.anchor_dy = o.box_anchor ? h.dy - R(s.anchor_y) : h.dy;
  h.ratio = fused(R(s.e), h.dx, fused(R(s.f), h.dy, R(1.0f)));
  h.inverse = reciprocal(h.ratio);
  // With the depth of the centre the low-pass disc needs no intersection: rays that miss the plane
  // see the disc alone. Otherwise `inside` drops them.
  auto meets = h.ratio > R(PARALLEL_RATIO);
  if (o.center_depth) h.inverse = select(meets, h.inverse, R(0.0f));
  h.u = fused(R(s.a), h.dx, R(s.b) * h.dy) * h.inverse;
  h.v = fused(R(s.c), h.dx, R(s.d) * h.dy) * h.inverse;
  h.rho_hit = fused(h.u, h.u, h.v * h.v);
  if (o.center_depth) h.rho_hit = select(meets, h.rho_hit, R(EVERYWHERE));
  R distance2 = fused(h.anchor_dx, h.anchor_dx, h.anchor_dy * h.anchor_dy);
  h.rho_disc = distance2 + distance2;
  static_assert(LOW_PASS_PRECISION == 2.0f, "rho_disc doubles the squared distance");
  return h;
}

// Whether the pixel lies in the support and the hit in front of the near plane.
template <class R>
SURFEL_HD auto inside(const SplatRecord& s, const Hit<R>& h, const PixelOptions& o) {
  // z >= near <=> ratio <= depth / near, also right for ratios at zero and below.
  auto in_front = h.ratio <= R(s.depth * o.inverse_near);
  auto support = smaller(h.rho_hit, h.rho_disc) <= R(s.cut);
  auto reached = o.center_depth ? either(in_front, h.rho_disc < h.rho_hit)
                                : both(in_front, h.ratio > R(PARALLEL_RATIO));
  return both(support, reached);
}

// Alpha of the pixel, clamped. The clamp's gradient is zero: see `alpha_vjp`.
template <class R>
SURFEL_HD R splat_alpha(const SplatRecord& s, const Hit<R>& h) {
  R rho = smaller(h.rho_hit, h.rho_disc);
  return smaller(R(s.opacity) * exponential_half(rho), R(MAX_ALPHA));
}

// Depth that the pixel reports for the splat; may be infinite where `inside` says no.
template <class R>
SURFEL_HD R hit_depth(const SplatRecord& s, const Hit<R>& h, const PixelOptions& o) {
  R depth = R(s.depth) * h.inverse;
  return o.center_depth ? select(h.rho_disc < h.rho_hit, R(s.depth), depth) : depth;
}

// 1 / depth of the pixel, finite whatever the ray does.
template <class R>
SURFEL_HD R hit_inverse_depth(const SplatRecord& s, const Hit<R>& h, const PixelOptions& o) {
  R inverse = h.ratio * R(s.inverse_depth);
  return o.center_depth ? select(h.rho_disc < h.rho_hit, R(s.inverse_depth), inverse) : inverse;
}

// Depth mapping of the distortion, m = shift - k / z: that of 2DGS but for a constant.
template <class R>
SURFEL_HD R mapped_depth(const R& inverse_depth, const PixelOptions& o) {
  return fused(R(-o.distortion), inverse_depth, R(o.shift));
}

// d m / d z.
template <class R>
SURFEL_HD R mapped_depth_slope(const R& inverse_depth, const PixelOptions& o) {
  return R(o.distortion) * inverse_depth * inverse_depth;
}

// The distortion sum_{j<i} w_i w_j (m_i - m_j)^2 of a pixel from its sums of w, w m, w m^2.
template <class R>
struct DistortionSums {
  R weight, first, second;

  SURFEL_HD void add(const R& w, const R& m) {
    R wm = w * m;
    first = first + wm;
    second = fused(wm, m, second);
  }
  SURFEL_HD R total() const { return larger(fused(weight, second, -(first * first)), R(0.0f)); }
  // d distortion / d w_i.
  SURFEL_HD R weight_slope(const R& m) const {
    return fused(m, fused(m, weight, R(-2.0f) * first), second);
  }
  // d distortion / d m_i.
  SURFEL_HD R depth_slope(const R& w, const R& m) const {
    return R(2.0f) * w * fused(m, weight, -first);
  }
};

// Gradients of one pixel with respect to what `intersect` read.
template <class R>
struct HitGrad {
  R u, v;                // (dL/du) / ratio, (dL/dv) / ratio
  R ratio;               // dL/dratio
  R depth;               // dL/d(record depth)
  R anchor_x, anchor_y;  // dL/danchor
  R hit_depth;           // `depth` where the intersection wins over the low-pass, else 0
};

// From alpha dL/dalpha (zero where clamped) and dL/dz to the gradient of the record. DEPTH: there
// is a dL/dz at all.
template <bool DEPTH, class R>
SURFEL_HD HitGrad<R> hit_vjp(const SplatRecord& s, const Hit<R>& h, const PixelOptions& o,
                             const R& alpha_term, const R& depth_term) {
  HitGrad<R> g;
  const R zero(0.0f);
  auto low_pass = h.rho_disc < h.rho_hit;
  R through_hit = select(low_pass, zero, alpha_term);
  R through_disc = R(2.0f) * (alpha_term - through_hit);
  g.u = -through_hit * h.u * h.inverse;
  g.v = -through_hit * h.v * h.inverse;
  g.anchor_x = through_disc * h.anchor_dx;
  g.anchor_y = through_disc * h.anchor_dy;
  if (!DEPTH) {
    g.ratio = -fused(g.u, h.u, g.v * h.v);
    g.depth = g.hit_depth = zero;
    return g;
  }
  R plane_term = depth_term;
  if (o.center_depth) plane_term = select(low_pass, zero, depth_term);
  R plane_depth = plane_term * h.inverse;
  // z = depth / ratio
  g.ratio = -(fused(g.u, h.u, fused(g.v, h.v, plane_depth * R(s.depth) * h.inverse)));
  g.depth = o.center_depth ? select(low_pass, depth_term, plane_depth) : plane_depth;
  g.hit_depth = select(low_pass, zero, plane_depth);
  return g;
}

// The densification signal: d L / d(M_x[2], M_y[2]) M_w[2], the ray transform's translation alone,
// M_w held fixed. Linear in the moments, so it serves pixels and sums alike.
template <class R>
struct ScreenSignal {
  R x, y;
};

template <class R>
SURFEL_HD ScreenSignal<R> screen_signal(const R& a, const R& b, const R& c, const R& d, const R& e,
                                        const R& f, const R& depth, const R* m) {
  R j1 = a * f - b * e;
  R j2 = d * e - c * f;
  R x = e * depth * m[M_HIT_DEPTH] - a * m[M_U] - j1 * m[M_U_DY] - c * m[M_V] + j2 * m[M_V_DY];
  R y = f * depth * m[M_HIT_DEPTH] - b * m[M_U] + j1 * m[M_U_DX] - d * m[M_V] - j2 * m[M_V_DX];
  return {x, y};
}

}  // namespace iqgs
