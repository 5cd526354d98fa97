// SPDX-License-Identifier: Apache-2.0
// One pixel meets one 3D Gaussian (3DGS): its image is a Gaussian, EWA splatting's, and its depth that
// of its centre.
#pragma once

#include "pixel_math.h"

namespace iqgs {

struct Ellipsoid {
  static constexpr bool FLAT = false;

  // u = a dx + b dy and v = d dy whiten the image: u^2 + v^2 is the squared distance, a sum of squares
  // that no rounding makes negative. v is how far off the row is, u how far off within the row.
  template <class R>
  struct Hit {
    R dx, dy;  // pixel minus projected centre
    R u, v;    // in standard deviations
  };

  template <class R>
  SURFEL_HD static Hit<R> intersect(const SplatRecord& s, const PixelOptions&, const R& px,
                                    const R& py) {
    Hit<R> h;
    h.dx = px - R(s.x);
    h.dy = py - R(s.y);
    h.u = fused(R(s.a), h.dx, R(s.b) * h.dy);
    h.v = R(s.d) * h.dy;
    return h;
  }

  template <class R>
  SURFEL_HD static R rho(const Hit<R>& h) {
    return fused(h.u, h.u, h.v * h.v);
  }

  // Whether the pixel lies in the support; the centre was in front of the near plane.
  template <class R>
  SURFEL_HD static auto inside(const SplatRecord& s, const Hit<R>& h, const PixelOptions&) {
    return rho(h) <= R(s.cut);
  }

  template <class R>
  SURFEL_HD static R depth(const SplatRecord& s, const Hit<R>&, const PixelOptions&) {
    return R(s.depth);
  }

  template <class R>
  SURFEL_HD static R inverse_depth(const SplatRecord& s, const Hit<R>&, const PixelOptions&) {
    return R(s.inverse_depth);
  }

  // From alpha dL/dalpha (zero where clamped) and dL/dz to the gradient of the record.
  template <bool DEPTH, class R>
  SURFEL_HD static HitGrad<R> vjp(const SplatRecord&, const Hit<R>& h, const PixelOptions&,
                                  const R& alpha_term, const R& depth_term) {
    const R zero(0.0f);
    return {-(alpha_term * h.u), -(alpha_term * h.v), zero, DEPTH ? depth_term : zero,
            zero,                zero,                zero};
  }

  // d L / d(projected centre), the shape on screen held fixed.
  template <class R>
  SURFEL_HD static ScreenSignal<R> screen_signal(const R& a, const R& b, const R&, const R& d,
                                                 const R&, const R&, const R&, const R* m) {
    return {-(a * m[M_U]), -fused(b, m[M_U], d * m[M_V])};
  }
};

}  // namespace iqgs
