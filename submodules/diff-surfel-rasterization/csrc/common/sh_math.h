// SPDX-License-Identifier: Apache-2.0
// Real spherical harmonics up to degree 3 in the order and with the signs of splatting practice
// (Condon-Shortley phase kept), and their gradient with respect to the direction.
#pragma once

#include "scalar.h"

namespace iqgs {

constexpr int MAX_SH_COEFFICIENTS = 16;
constexpr float SH_C0 = 0.28209479177387814f;   // sqrt(1 / 4 pi)
constexpr float SH_C1 = 0.4886025119029199f;    // sqrt(3 / 4 pi)
constexpr float SH_C2A = 1.0925484305920792f;   // sqrt(15 / 4 pi)
constexpr float SH_C2B = 0.31539156525252005f;  // sqrt(5 / 16 pi)
constexpr float SH_C3A = 0.5900435899266435f;   // sqrt(35 / 32 pi)
constexpr float SH_C3B = 2.890611442640554f;    // sqrt(105 / 4 pi)
constexpr float SH_C3C = 0.4570457994644658f;   // sqrt(21 / 32 pi)
constexpr float SH_C3D = 0.3731763325901154f;   // sqrt(7 / 16 pi)

SURFEL_HD int sh_coefficients(int degree) {
  return (degree + 1) * (degree + 1);
}

// Values of the basis at the unit direction d; writes (degree + 1)^2 entries of `out`.
template <class R>
SURFEL_HD void sh_basis(const Vec3<R>& d, int degree, R* out) {
  const R x = d.x, y = d.y, z = d.z;
  const R xx = x * x, yy = y * y, zz = z * z;
  out[0] = R(SH_C0);
  if (degree < 1) return;
  out[1] = R(-SH_C1) * y;
  out[2] = R(SH_C1) * z;
  out[3] = R(-SH_C1) * x;
  if (degree < 2) return;
  out[4] = R(SH_C2A) * x * y;
  out[5] = R(-SH_C2A) * y * z;
  out[6] = R(SH_C2B) * (R(2.0f) * zz - xx - yy);
  out[7] = R(-SH_C2A) * x * z;
  out[8] = R(0.5f * SH_C2A) * (xx - yy);
  if (degree < 3) return;
  out[9] = R(-SH_C3A) * y * (R(3.0f) * xx - yy);
  out[10] = R(SH_C3B) * x * y * z;
  out[11] = R(-SH_C3C) * y * (R(4.0f) * zz - xx - yy);
  out[12] = R(SH_C3D) * z * (R(2.0f) * zz - R(3.0f) * xx - R(3.0f) * yy);
  out[13] = R(-SH_C3C) * x * (R(4.0f) * zz - xx - yy);
  out[14] = R(0.5f * SH_C3B) * z * (xx - yy);
  out[15] = R(-SH_C3A) * x * (xx - R(3.0f) * yy);
}

// Gradient with respect to d of sum_k g_k basis_k(d); d is treated as three free numbers.
template <class R>
SURFEL_HD Vec3<R> sh_basis_vjp(const Vec3<R>& d, int degree, const R* g) {
  const R x = d.x, y = d.y, z = d.z;
  Vec3<R> r = {R(0.0f), R(0.0f), R(0.0f)};
  if (degree < 1) return r;
  r = {R(-SH_C1) * g[3], R(-SH_C1) * g[1], R(SH_C1) * g[2]};
  if (degree < 2) return r;
  const R a4 = R(SH_C2A) * g[4], a5 = R(-SH_C2A) * g[5], a6 = R(2.0f * SH_C2B) * g[6];
  const R a7 = R(-SH_C2A) * g[7], a8 = R(SH_C2A) * g[8];
  r.x = r.x + a4 * y - a6 * x + a7 * z + a8 * x;
  r.y = r.y + a4 * x + a5 * z - a6 * y - a8 * y;
  r.z = r.z + a5 * y + R(2.0f) * a6 * z + a7 * x;
  if (degree < 3) return r;
  const R xx = x * x, yy = y * y, zz = z * z, xy = x * y, xz = x * z, yz = y * z;
  const R two(2.0f), three(3.0f), six(6.0f), eight(8.0f);
  const R b9 = R(-SH_C3A) * g[9], b10 = R(SH_C3B) * g[10], b11 = R(-SH_C3C) * g[11];
  const R b12 = R(SH_C3D) * g[12], b13 = R(-SH_C3C) * g[13], b14 = R(0.5f * SH_C3B) * g[14];
  const R b15 = R(-SH_C3A) * g[15];
  const R ring = R(4.0f) * zz - xx - yy;
  r.x = r.x + six * b9 * xy + b10 * yz - two * b11 * xy - six * b12 * xz + b13 * (ring - two * xx) +
        two * b14 * xz + three * b15 * (xx - yy);
  r.y = r.y + three * b9 * (xx - yy) + b10 * xz + b11 * (ring - two * yy) - six * b12 * yz -
        two * b13 * xy - two * b14 * yz - six * b15 * xy;
  r.z = r.z + b10 * xy + eight * b11 * yz + three * b12 * (two * zz - xx - yy) + eight * b13 * xz +
        b14 * (xx - yy);
  return r;
}

// Gradient of v from that of its direction v / |v|.
template <class R>
SURFEL_HD Vec3<R> direction_vjp(const Vec3<R>& unit, const R& inverse_length, const Vec3<R>& grad) {
  return (grad - unit * dot(unit, grad)) * inverse_length;
}

}  // namespace iqgs
