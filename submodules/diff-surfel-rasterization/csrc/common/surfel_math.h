// SPDX-License-Identifier: Apache-2.0
// One pixel meets one flat Gaussian (2DGS): intersection, depth, and their vector-Jacobian products.
#pragma once

#include "pixel_math.h"

namespace iqgs {

struct Surfel {
  static constexpr bool FLAT = true;

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
  SURFEL_HD static Hit<R> intersect(const SplatRecord& s, const PixelOptions& o, const R& px,
                                    const R& py) {
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

  template <class R>
  SURFEL_HD static R rho(const Hit<R>& h) {
    return smaller(h.rho_hit, h.rho_disc);
  }

  // Whether the pixel lies in the support and the hit in front of the near plane.
  template <class R>
  SURFEL_HD static auto inside(const SplatRecord& s, const Hit<R>& h, const PixelOptions& o) {
    // z >= near <=> ratio <= depth / near, also right for ratios at zero and below.
    auto in_front = h.ratio <= R(s.depth * o.inverse_near);
    auto support = rho(h) <= R(s.cut);
    auto reached = o.center_depth ? either(in_front, h.rho_disc < h.rho_hit)
                                  : both(in_front, h.ratio > R(PARALLEL_RATIO));
    return both(support, reached);
  }

  // Depth that the pixel reports for the splat; may be infinite where `inside` says no.
  template <class R>
  SURFEL_HD static R depth(const SplatRecord& s, const Hit<R>& h, const PixelOptions& o) {
    R depth = R(s.depth) * h.inverse;
    return o.center_depth ? select(h.rho_disc < h.rho_hit, R(s.depth), depth) : depth;
  }

  // 1 / depth of the pixel, finite whatever the ray does.
  template <class R>
  SURFEL_HD static R inverse_depth(const SplatRecord& s, const Hit<R>& h, const PixelOptions& o) {
    R inverse = h.ratio * R(s.inverse_depth);
    return o.center_depth ? select(h.rho_disc < h.rho_hit, R(s.inverse_depth), inverse) : inverse;
  }

  // From alpha dL/dalpha (zero where clamped) and dL/dz to the gradient of the record. DEPTH: there
  // is a dL/dz at all.
  template <bool DEPTH, class R>
  SURFEL_HD static HitGrad<R> vjp(const SplatRecord& s, const Hit<R>& h, const PixelOptions& o,
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

  // d L / d(M_x[2], M_y[2]) M_w[2], the ray transform's translation alone, M_w held fixed.
  template <class R>
  SURFEL_HD static ScreenSignal<R> screen_signal(const R& a, const R& b, const R& c, const R& d,
                                                 const R& e, const R& f, const R& depth,
                                                 const R* m) {
    R j1 = a * f - b * e;
    R j2 = d * e - c * f;
    R x = e * depth * m[M_HIT_DEPTH] - a * m[M_U] - j1 * m[M_U_DY] - c * m[M_V] + j2 * m[M_V_DY];
    R y = f * depth * m[M_HIT_DEPTH] - b * m[M_U] + j1 * m[M_U_DX] - d * m[M_V] - j2 * m[M_V_DX];
    return {x, y};
  }
};

}  // namespace iqgs
