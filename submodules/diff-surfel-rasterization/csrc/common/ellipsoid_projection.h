// SPDX-License-Identifier: Apache-2.0
// From a 3D Gaussian (3DGS) in the camera frame to its record and footprint: EWA splatting.
//
// The perspective is linearised at the centre (x, y, z): a vector m moves a point on screen by
// fx / z (m.x - x/z m.z), and the same of y. The three axes of a splat, as long as its standard
// deviations, so give two-vectors, whose outer products add up to the covariance on screen; to it is
// added SCREEN_DILATION on the diagonal. x/z and y/z are kept near the image there (RATIO_MARGIN), as
// 3DGS keeps them; where the principal point is off the middle each side has its own limit.
#pragma once

#include "bounds_math.h"
#include "ellipsoid_math.h"
#include "projection_math.h"

namespace iqgs {

// The linearised perspective at a centre.
template <class R>
struct Perspective {
  R inverse;           // 1 / z
  R scale_x, scale_y;  // fx / z, fy / z
  R slope_x, slope_y;  // x / z, y / z, near the image
  R free_x, free_y;    // 1 where they are those of the centre, 0 where they are limits
};

template <class R, class C>
SURFEL_HD Perspective<R> perspective_at(const CameraOf<C>& cam, const Vec3<R>& p) {
  Perspective<R> r;
  const R zero(0.0f), one(1.0f);
  const C width(static_cast<float>(cam.width)), height(static_cast<float>(cam.height));
  const C margin(0.5 * RATIO_MARGIN), margin_x = margin * width, margin_y = margin * height;
  const R left(-(cam.cx + margin_x) / cam.fx), right((width - cam.cx + margin_x) / cam.fx);
  const R top(-(cam.cy + margin_y) / cam.fy), bottom((height - cam.cy + margin_y) / cam.fy);
  r.inverse = one / p.z;
  r.scale_x = R(cam.fx) * r.inverse;
  r.scale_y = R(cam.fy) * r.inverse;
  const R x = p.x * r.inverse, y = p.y * r.inverse;
  r.slope_x = smaller(larger(x, left), right);
  r.slope_y = smaller(larger(y, top), bottom);
  r.free_x = select(both(left <= x, x <= right), one, zero);
  r.free_y = select(both(top <= y, y <= bottom), one, zero);
  return r;
}

struct EllipsoidProjection {
  using Pixels = Ellipsoid;
  static constexpr int SCALES = 3;
  template <class R>
  using Frame = SplatFrame<R, SCALES>;
  template <class R>
  struct View : SplatView<R> {
    R xx, xy, yy;               // covariance on screen, pixels^2
    R within;                   // variance within a row of pixels, pixels^2
    R shortest_u, shortest_v;   // 1 where this axis is the shortest of the three, else 0
    R side;                     // of the normal: -1 where the shortest axis looks away
  };

  // The three axes, as long as the standard deviations.
  template <class R>
  SURFEL_HD static Vec3<R> axis(const Frame<R>& f, int k) {
    return (k == 0 ? f.tangent_u : k == 1 ? f.tangent_v : f.normal) * f.scale[k];
  }

  // Projected centre, whitening coefficients, normal, cut-off. Valid where `center.z` is positive.
  // The normal is the shortest axis, the first of equals.
  template <class R, class C>
  SURFEL_HD static View<R> view(const CameraOf<C>& cam, const Frame<R>& f, const R& opacity) {
    View<R> r;
    const R zero(0.0f), one(1.0f), dilation(SCREEN_DILATION);
    const Vec3<R>& p = f.center;
    const Perspective<R> j = perspective_at(cam, p);
    r.x = fused(R(cam.fx) * p.x, j.inverse, R(cam.cx));
    r.y = fused(R(cam.fy) * p.y, j.inverse, R(cam.cy));
    r.xx = r.yy = dilation;
    r.xy = zero;
    SURFEL_UNROLL
    for (int k = 0; k < SCALES; ++k) {
      const Vec3<R> m = axis(f, k);
      const R x = j.scale_x * fused(-j.slope_x, m.z, m.x);
      const R y = j.scale_y * fused(-j.slope_y, m.z, m.y);
      r.xx = fused(x, x, r.xx);
      r.xy = fused(x, y, r.xy);
      r.yy = fused(y, y, r.yy);
    }
    // rho = u^2 + v^2 with u = (dx - xy/yy dy) / sqrt(xx - xy^2/yy), v = dy / sqrt(yy).
    const R lean = r.xy / r.yy;
    r.within = larger(fused(-lean, r.xy, r.xx), dilation);  // never less but for rounding
    r.a = one / root(r.within);
    r.b = -(lean * r.a);
    r.c = r.e = r.f = r.anchor_x = r.anchor_y = zero;
    r.d = one / root(r.yy);
    r.depth = p.z;
    r.opacity = opacity;
    r.cut = support_cut(opacity);
    const auto u_wins = both(f.scale[0] <= f.scale[1], f.scale[0] <= f.scale[2]);
    const auto v_wins = f.scale[1] <= f.scale[2];
    r.shortest_u = select(u_wins, one, zero);
    r.shortest_v = select(u_wins, zero, select(v_wins, one, zero));
    const R rest = one - r.shortest_u - r.shortest_v;
    const Vec3<R> n = f.tangent_u * r.shortest_u + f.tangent_v * r.shortest_v + f.normal * rest;
    r.side = select(dot(n, p) > zero, -one, one);
    r.normal = n * r.side;
    return r;
  }

  // In front of the near plane.
  template <class R, class C>
  SURFEL_HD static auto alive(const CameraOf<C>& cam, const Frame<R>& f, const View<R>&) {
    return f.center.z > R(cam.near);
  }

  // `narrow` brings numbers to the precision of the bounds.
  template <class R, class C, class Narrow>
  SURFEL_HD static auto bounds(const CameraOf<C>&, const Frame<R>&, const View<R>& v,
                               const Narrow& narrow) {
    using F = decltype(narrow(v.xx));
    const F zero(0.0f), half(0.5f), everywhere(EVERYWHERE);
    const F grow(1.0f + BOUND_SLACK_RELATIVE), slack(BOUND_SLACK_PIXELS);
    const F xx = narrow(v.xx), xy = narrow(v.xy), yy = narrow(v.yy);
    const F rho = larger(narrow(v.cut), zero);
    const F half_x = smaller(root(rho * xx), everywhere);
    const F half_y = smaller(root(rho * yy), everywhere);
    const F chord = smaller(root(rho * narrow(v.within)), everywhere);
    SplatBounds<F> b;
    b.x = narrow(v.x);
    b.y = narrow(v.y);
    b.low_x = b.x - half_x;
    b.low_y = b.y - half_y;
    b.high_x = b.x + half_x;
    b.high_y = b.y + half_y;
    b.half_x = fused(half_x, grow, slack);
    b.half_y = fused(half_y, grow, slack);
    b.slope = xy / yy;
    b.chord = chord + fused(half_x, F(BOUND_SLACK_RELATIVE), slack);
    b.disc = zero;
    // Three standard deviations along the longest axis on screen.
    const F apart = half * (xx - yy);
    const F largest = half * (xx + yy) + root(fused(apart, apart, xy * xy));
    b.radius = F(BOX_SIGMAS) * root(largest);
    return b;
  }
};

}  // namespace iqgs
