// SPDX-License-Identifier: Apache-2.0
// What pixels and splats of every kind have in common. A kind is a struct of static functions that
// the kernels take as template parameter, `Surfel` or `Ellipsoid`:
//
//   FLAT            pixels meet it in a plane, at depths of their own, and beside it a low-pass disc
//   Hit<R>          where a pixel meets it: u, v in standard deviations, and what the kind needs more
//   intersect       the hit of a pixel
//   rho             squared distance to the splat in standard deviations
//   inside          whether the pixel lies in the support, and in front of the near plane
//   depth, inverse_depth, vjp, screen_signal
//
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

// Alpha at squared distance rho, clamped. The clamp's gradient is zero.
template <class R>
SURFEL_HD R splat_alpha(const SplatRecord& s, const R& rho) {
  return smaller(R(s.opacity) * exponential_half(rho), R(MAX_ALPHA));
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

// Gradients of one pixel with respect to what `intersect` read; an ellipsoid has the first two and
// `depth` alone.
template <class R>
struct HitGrad {
  R u, v;                // (dL/du) / ratio, (dL/dv) / ratio
  R ratio;               // dL/dratio
  R depth;               // dL/d(record depth)
  R anchor_x, anchor_y;  // dL/danchor
  R hit_depth;           // `depth` where the intersection wins over the low-pass, else 0
};

// The densification signal: the gradient with respect to where the splat appears, all else held
// fixed. Linear in the moments, so it serves pixels and sums alike.
template <class R>
struct ScreenSignal {
  R x, y;
};

}  // namespace iqgs
