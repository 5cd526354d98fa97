// SPDX-License-Identifier: Apache-2.0
// Focal and dice loss of one query at one pixel, for plain numbers and for vectors of pixels. The
// sums over pixels, what follows from them, and the derivative, are here as well: both devices
// share them.
#pragma once

#include <cstdint>

#include "../common/scalar.h"

namespace iqgs {

// M queries against P pixels of which each is owned by one query or by none.
struct MaskLossParams {
  const float* queries;   // [M, query_stride], on the CPU M filled up with rows of zeros
  const float* features;  // [P, D]
  const int32_t* owner;   // [P] row of the owning query; any other number: none
  int query_count;        // M
  int64_t pixel_count;    // P
  int channels;           // D
  int query_stride;       // D, or more: then the rest of a row is zero
  float gamma;            // exponent of the focal term
  float alpha;            // its balance, below zero: none
};

// dL/dlogit = focal * (focal derivative) + chance * p (1 - p), on and off the query's own pixels.
struct MaskSlopes {
  float on_focal, on_chance, off_focal, off_chance;
};

struct MaskGradParams {
  MaskLossParams forward;
  const MaskSlopes* slopes;  // [M]
  float* features;           // [P, D] out, null where not wanted
};

// What is summed over the pixels of one query. "Wrong" is the answer that the pixel's owner
// contradicts: the query's own probability elsewhere, one minus it on its own pixels.
enum MaskSum { LOSS_SUM, WRONG_SUM, OWN_WRONG_SUM, AREA_SUM, MASK_SUMS };

constexpr int MASK_QUERY_PADDING = 8;  // M is filled up to a multiple on the CPU

constexpr double DICE_SMOOTHING = 1.0;  // one pixel

// From the logit x of the wrong answer.
template <class R>
struct WrongAnswer {
  R chance;    // sigma(x)
  R other;     // 1 - sigma(x)
  R product;   // sigma(x) (1 - sigma(x))
  R surprise;  // softplus(x) = -log(1 - sigma(x))
};

// log(1 + e) for e in [0, 1]: minimax in log(1 + e) / e, relative error 1.7e-7. Pairs of
// coefficients first: half as long a chain of dependent operations as one after the other.
template <class R>
SURFEL_HD R log_one_plus(const R& e) {
  const R square = e * e;
  const R first = fused(e, R(-4.9997516039e-1f), R(9.9999983525e-1f));
  const R second = fused(e, R(-2.4501934867e-1f), R(3.3276728572e-1f));
  const R third = fused(e, R(-1.0792417207e-1f), R(1.7762449567e-1f));
  const R fourth = fused(e, R(-8.5875644611e-3f), R(4.4261695908e-2f));
  return e * fused(square, fused(square, fused(square, fourth, third), second), first);
}

// e^-87 is the smallest that float32 holds with all its digits.
constexpr float LARGEST_EXPONENT = 87.0f;

// e^-|x|, the same for an answer and its opposite.
template <class R>
SURFEL_HD R unlikeliness(const R& x) {
  return exponential_negative(smaller(magnitude(x), R(LARGEST_EXPONENT)));
}

// `e` is the unlikeliness of x. A logit that is no number gives a surprise that is none.
template <class R>
SURFEL_HD WrongAnswer<R> wrong_answer(const R& x, const R& e) {
  const R zero(0.0f);
  const R likely = reciprocal(R(1.0f) + e), unlikely = e * likely;
  const auto right = x <= zero;
  return {select(right, unlikely, likely), select(right, likely, unlikely), likely * unlikely,
          select(right, zero, x) + log_one_plus(e)};
}

// Which power of sigma(x) the focal term has: none, the square, or any.
enum class Focus { FLAT, SQUARE, ANY };

inline Focus focus_of(float gamma) {
  return gamma == 0.0f ? Focus::FLAT : gamma == 2.0f ? Focus::SQUARE : Focus::ANY;
}

// sigma(x)^gamma, for Focus::ANY from its logarithm x - softplus(x).
template <Focus F, class R>
SURFEL_HD R focal_power(const WrongAnswer<R>& a, const R& x, const R& gamma) {
  if (F == Focus::FLAT) return R(1.0f);
  if (F == Focus::SQUARE) return a.chance * a.chance;
  return exponential_negative(
      smaller(gamma * larger(R(0.0f), a.surprise - x), R(LARGEST_EXPONENT)));
}

// sigma(x)^gamma softplus(x).
template <Focus F, class R>
SURFEL_HD R focal_term(const WrongAnswer<R>& a, const R& x, const R& gamma) {
  return F == Focus::FLAT ? a.surprise : focal_power<F>(a, x, gamma) * a.surprise;
}

// Its derivative in x.
template <Focus F, class R>
SURFEL_HD R focal_slope(const WrongAnswer<R>& a, const R& x, const R& gamma) {
  if (F == Focus::FLAT) return a.chance;
  return focal_power<F>(a, x, gamma) * fused(gamma * a.other, a.surprise, a.chance);
}

// Of one query: sum of p over its own pixels, and sum of p over all pixels plus their number.
struct MaskOverlap {
  double overlap, total;
};

SURFEL_HD MaskOverlap mask_overlap(const double* sums) {
  const double area = sums[AREA_SUM], own = sums[OWN_WRONG_SUM];
  return {area - own, sums[WRONG_SUM] - own - own + area + area};
}

// Mean over pixels; zero where there is none.
SURFEL_HD float mean_focal(const MaskLossParams& p, const double* sums) {
  return p.pixel_count ? static_cast<float>(sums[LOSS_SUM] / double(p.pixel_count)) : 0.0f;
}

// A logit that is no number shows in the sum of losses only: here it is passed on.
SURFEL_HD float mask_dice(const double* sums) {
  const MaskOverlap o = mask_overlap(sums);
  const double loss = 1.0 - (2.0 * o.overlap + DICE_SMOOTHING) / (o.total + DICE_SMOOTHING);
  return static_cast<float>(sums[LOSS_SUM] == sums[LOSS_SUM] ? loss : sums[LOSS_SUM]);
}

// From the gradients of one query's two losses. No pixel: the focal term is zero.
SURFEL_HD MaskSlopes mask_slopes(const MaskLossParams& p, const MaskOverlap& o, float grad_focal,
                                 float grad_dice) {
  const double on = p.alpha < 0.0f ? 1.0 : double(p.alpha);
  const double off = p.alpha < 0.0f ? 1.0 : 1.0 - double(p.alpha);
  const double focal = p.pixel_count ? grad_focal / double(p.pixel_count) : 0.0;
  const double total = o.total + DICE_SMOOTHING;
  const double outside = grad_dice * (2.0 * o.overlap + DICE_SMOOTHING) / (total * total);
  return {float(-focal * on), float(outside - 2.0 * grad_dice / total), float(focal * off),
          float(outside)};
}

}  // namespace iqgs
