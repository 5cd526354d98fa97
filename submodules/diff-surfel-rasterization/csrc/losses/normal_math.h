// SPDX-License-Identifier: Apache-2.0
// Normal consistency (2DGS Eq. 14 and 15): how far rendered normals and those of the depth image
// disagree, with the derivatives by all images. Both devices share it.
//
// A pixel's surface normal is the unit vector along down x right, the central differences of the
// back-projected depth along its column and its row: y points down in the image, so it faces the
// camera. The border of one pixel has none. All is in the camera's frame: turning both normals into
// the world would leave their product as it is.
#pragma once

#include <cstdint>

#include "../common/scalar.h"

namespace iqgs {

constexpr float LEAST_ALPHA = 1.1920929e-07f;  // float32's epsilon; less is no surface
constexpr float LEAST_NORMAL = 1e-24f;  // squared length of a cross product; shorter is no normal

// The ray of pixel (i, j) is (x + inverse_fx i, y + inverse_fy j, 1).
struct PixelRays {
  float inverse_fx, inverse_fy, x, y;
};

// Images [1, H, W] but for the normal [3, H, W]: the rendered sums, not divided by alpha. Slopes:
// derivatives of the sum over pixels of alpha <normal, surface normal>, alpha held fixed there; by
// the normal (3), the depth, alpha and, where `median` is given, the median depth.
struct NormalLossParams {
  const float* normal;
  const float* depth;
  const float* alpha;
  const float* median;  // null where its share is 0
  int height, width;
  float median_share;  // of the surface's depth: 0 is the expected depth
  PixelRays rays;
  float* slopes;  // [5 or 6, H, W] out; null where not wanted
};

// Depth of the surface at a pixel. Neighbours are subtracted from each other, so every unit in the
// last place counts: a true quotient.
template <class R>
SURFEL_HD R surface_depth(const R& depth, const R& alpha) {
  return depth / larger(alpha, R(LEAST_ALPHA));
}

// Difference of two points on rays of slopes (x, y): t behind on the second ray, s on the first.
// Along a row the rays share y, along a column x.
template <class R>
SURFEL_HD Vec3<R> along_row(const R& s, const R& t, const R& x_before, const R& x_behind,
                            const R& y) {
  const R rise = t - s;
  return {fused(t, x_behind, -(s * x_before)), rise * y, rise};
}

template <class R>
SURFEL_HD Vec3<R> along_column(const R& s, const R& t, const R& x, const R& y_before,
                               const R& y_behind) {
  const R rise = t - s;
  return {rise * x, fused(t, y_behind, -(s * y_before)), rise};
}

// What a pixel adds to the sum, and the derivatives by its normal and by the two differences.
template <class R>
struct NormalAgreement {
  R value;
  Vec3<R> by_normal, by_down, by_right;
};

template <class R>
SURFEL_HD NormalAgreement<R> normal_agreement(const Vec3<R>& down, const Vec3<R>& right,
                                              const Vec3<R>& normal, const R& alpha) {
  const Vec3<R> crossed = cross(down, right);
  const R square = dot(crossed, crossed);
  const R inverse = reciprocal(root(larger(square, R(LEAST_NORMAL))));
  const Vec3<R> unit = crossed * inverse;
  NormalAgreement<R> r;
  r.by_normal = unit * alpha;
  r.value = dot(normal, r.by_normal);
  // Where the length is held at the least, the vector is only scaled.
  const R along = select(square >= R(LEAST_NORMAL), r.value, R(0.0f));
  const Vec3<R> by_crossed = (normal * alpha - unit * along) * inverse;
  r.by_down = cross(right, by_crossed);
  r.by_right = cross(by_crossed, down);
  return r;
}

// The mean over all pixels of 1 - agreement, and what the slopes become per unit of its gradient.
SURFEL_HD float normal_disagreement(double sum, int64_t pixels) {
  return static_cast<float>(1.0 - sum / static_cast<double>(pixels));
}

}  // namespace iqgs
