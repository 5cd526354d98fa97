// SPDX-License-Identifier: Apache-2.0
// L1 and structural similarity of an image and its target: the numbers, the similarity at one pixel
// with its derivatives, and what follows from the sums over pixels. Both devices share them.
//
// SSIM (Wang et al. 2004) needs the variances of the two images x, y only as a sum. With m, n the
// local means of x, y, s = blur(x^2 + y^2) and q = blur(x y), it is a1 a2 / (b1 b2) with
// a1 = 2 m n + C1, b1 = m^2 + n^2 + C1, a2 = 2 (q - m n) + C2, b2 = s - m^2 - n^2 + C2: four blurs
// forward, and three backward, because the blur is its own adjoint.
#pragma once

#include <cstdint>

#include "../common/scalar.h"

namespace iqgs {

constexpr int SSIM_RADIUS = 5;
constexpr int SSIM_WINDOW = 2 * SSIM_RADIUS + 1;
constexpr float SSIM_C1 = 0.0001f, SSIM_C2 = 0.0009f;  // (0.01, 0.03 of a range of 1) squared

// The Gaussian of sigma 1.5 at whole pixels, sum 1, by the distance from the middle.
SURFEL_HD constexpr float ssim_weight(int distance) {
  return distance == 0   ? 0.266011725f
         : distance == 1 ? 0.213005538f
         : distance == 2 ? 0.10936069f
         : distance == 3 ? 0.0360007721f
         : distance == 4 ? 0.00759875814f
                         : 0.00102838008f;
}

// Images [C, H, W]. Where the weight [H, W] is not above zero a pixel lies outside the image.
struct ImageLossParams {
  const float* image;
  const float* target;
  const float* weight;  // null: one everywhere
  int channels, height, width;
  float* slope;  // [C, H, W] out: d (sum of weight SSIM) / d image; null where not wanted
};

// loss = l1 sum |x - y| w / (C sum w) + dssim (1 - sum SSIM w / (C sum w)).
struct ImageGradParams {
  ImageLossParams forward;  // its slope is read
  float* grad;              // [C, H, W] out
};

// Sums over pixels, of all channels but for the weight.
struct ImageSums {
  double difference, similarity, weight;
};

// What the two gradients of the losses become per pixel: grad = l1 w sign(x - y) + slope dssim.
struct ImageScales {
  float l1, slope;
};

// What the window sees of the two images.
template <class R>
struct LocalMoments {
  R image, target, squares, product;
};

// SSIM and its derivatives by the moments that depend on the image.
template <class R>
struct Similarity {
  R value, by_image, by_squares, by_product;
};

template <class R>
SURFEL_HD Similarity<R> similarity(const LocalMoments<R>& m) {
  const R two(2.0f);
  const R means = m.image * m.target;
  const R powers = fused(m.image, m.image, m.target * m.target);
  const R a1 = fused(two, means, R(SSIM_C1)), a2 = fused(two, m.product - means, R(SSIM_C2));
  const R b1 = powers + R(SSIM_C1), b2 = m.squares - powers + R(SSIM_C2);
  const R inverse = reciprocal(b1 * b2);
  const R by_a1 = a2 * inverse, by_a2 = a1 * inverse;
  const R value = a1 * by_a1;
  // The derivatives by b1 and b2 are -value / b1 and -value / b2.
  const R share = value * inverse, by_b1 = share * b2, by_b2 = share * b1;
  return {value, two * fused(m.target, by_a1 - by_a2, m.image * (by_b2 - by_b1)), R(0.0f) - by_b2,
          two * by_a2};
}

// From the blurred derivatives at a pixel: the derivative by the image there.
template <class R>
SURFEL_HD R image_slope(const R& by_image, const R& by_squares, const R& by_product, const R& image,
                        const R& target) {
  return fused(R(2.0f) * image, by_squares, fused(target, by_product, by_image));
}

// Both losses, zero where no pixel counts. losses: l1, then 1 - SSIM.
SURFEL_HD void image_losses(const ImageSums& sums, int channels, float* losses) {
  const double total = channels * sums.weight;
  losses[0] = total > 0.0 ? static_cast<float>(sums.difference / total) : 0.0f;
  losses[1] = total > 0.0 ? static_cast<float>((total - sums.similarity) / total) : 0.0f;
}

// `weight`: its sum over pixels; `grads`: of l1, then of 1 - SSIM.
SURFEL_HD ImageScales image_scales(double weight, int channels, const float* grads) {
  const double inverse = weight > 0.0 ? 1.0 / (channels * weight) : 0.0;
  return {static_cast<float>(grads[0] * inverse), static_cast<float>(-grads[1] * inverse)};
}

}  // namespace iqgs
