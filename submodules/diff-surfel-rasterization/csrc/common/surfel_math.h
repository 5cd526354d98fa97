// SPDX-License-Identifier: Apache-2.0
// One pixel meets one splat: intersection, weight, distortion, and their vector-Jacobian products.
// R is the number of one pixel (float, double) or of many (vector lanes); there are no branches.
#pragma once

#include "constants.h"
#include "params.h"
#include "scalar.h"

namespace iqgs {

// The part of a camera that pixels need.
struct DepthRange {
  float near;          // nearer intersections are dropped
  float distortion;    // far near / (far - near), the factor of the distortion's depth mapping
  bool center_depth;   // see Camera
};

SURFEL_HD DepthRange depth_range(const Camera& camera) {
  return {camera.near, camera.far * camera.near / (camera.far - camera.near),
          camera.center_depth};
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
SURFEL_HD Hit<R> intersect(const SplatRecord& s, const DepthRange& range, const R& px,
                           const R& py) {
  Hit<R> h;
  h.dx = px - R(s.x);
  h.dy = py - R(s.y);
  h.anchor_dx = h.dx - R(s.anchor_x);
  h.anchor_dy = h.dy - R(s.anchor_y);
  h.ratio = fused(R(s.e), h.dx, fused(R(s.f), h.dy, R(1.0f)));
  h.inverse = reciprocal(h.ratio);
  // With the depth of the centre the low-pass disc needs no intersection: rays that miss the plane
  // see the disc alone. Otherwise `inside` drops them.
  auto meets = h.ratio > R(PARALLEL_RATIO);
  if (range.center_depth) h.inverse = select(meets, h.inverse, R(0.0f));
  h.u = fused(R(s.a), h.dx, R(s.b) * h.dy) * h.inverse;
  h.v = fused(R(s.c), h.dx, R(s.d) * h.dy) * h.inverse;
  h.rho_hit = fused(h.u, h.u, h.v * h.v);
  if (range.center_depth) h.rho_hit = select(meets, h.rho_hit, R(EVERYWHERE));
  h.rho_disc =
      R(LOW_PASS_PRECISION) * fused(h.anchor_dx, h.anchor_dx, h.anchor_dy * h.anchor_dy);
  return h;
}

// Whether the pixel lies in the support and the hit in front of the near plane.
template <class R>
SURFEL_HD auto inside(const SplatRecord& s, const Hit<R>& h, const DepthRange& range) {
  // z >= near <=> ratio near <= depth, also right for ratios at zero and below.
  auto in_front = h.ratio * R(range.near) <= R(s.depth);
  auto support = smaller(h.rho_hit, h.rho_disc) <= R(s.cut);
  auto reached = range.center_depth ? either(in_front, h.rho_disc < h.rho_hit)
                                    : both(in_front, h.ratio > R(PARALLEL_RATIO));
  return both(support, reached);
}

// Alpha of the pixel, clamped. The clamp's gradient is zero: see `alpha_vjp`.
template <class R>
SURFEL_HD R splat_alpha(const SplatRecord& s, const Hit<R>& h) {
  R rho = smaller(h.rho_hit, h.rho_disc);
  return smaller(R(s.opacity) * exponential(R(-0.5f) * rho), R(MAX_ALPHA));
}

// Depth that the pixel reports for the splat.
template <class R>
SURFEL_HD R hit_depth(const SplatRecord& s, const Hit<R>& h, const DepthRange& range) {
  R depth = R(s.depth) * h.inverse;
  return range.center_depth ? select(h.rho_disc < h.rho_hit, R(s.depth), depth) : depth;
}

// Depth mapping of the distortion, up to a constant that cancels: m = -k / z.
template <class R>
SURFEL_HD R mapped_depth(const R& depth, const DepthRange& range) {
  return R(-range.distortion) * reciprocal(depth);
}

// d m / d z for m = -k / z.
template <class R>
SURFEL_HD R mapped_depth_slope(const R& depth, const DepthRange& range) {
  R inverse = reciprocal(depth);
  return R(range.distortion) * inverse * inverse;
}

// Running sums of the distortion sum_{j<i} w_i w_j (m_i - m_j)^2.
template <class R>
struct DistortionSums {
  R weight, first, second;  // sums of w, w m, w m^2

  // What splat i adds, over the splats before it.
  SURFEL_HD R step(const R& w, const R& m) {
    R added = w * fused(m, fused(m, weight, R(-2.0f) * first), second);
    weight = weight + w;
    first = fused(w, m, first);
    second = fused(w * m, m, second);
    return added;
  }
  // d distortion / d w_i, with the sums over all splats.
  SURFEL_HD R weight_slope(const R& m) const {
    return fused(m, fused(m, weight, R(-2.0f) * first), second);
  }
  // d distortion / d m_i, with the sums over all splats.
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

// From alpha dL/dalpha (zero where clamped) and dL/dz to the gradient of the record.
template <class R>
SURFEL_HD HitGrad<R> hit_vjp(const SplatRecord& s, const Hit<R>& h, const DepthRange& range,
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
  R plane_term = depth_term;
  if (range.center_depth) plane_term = select(low_pass, zero, depth_term);
  R plane_depth = plane_term * h.inverse;
  // z = depth / ratio
  g.ratio = -(fused(g.u, h.u, fused(g.v, h.v, plane_depth * R(s.depth) * h.inverse)));
  g.depth = range.center_depth ? select(low_pass, depth_term, plane_depth) : plane_depth;
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
