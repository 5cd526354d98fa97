// SPDX-License-Identifier: Apache-2.0
// What the mask losses of both devices share: checks, and the struct of the kernels.
#pragma once

#include "../../bindings/inputs.h"
#include "../mask_math.h"

namespace iqgs {
namespace torch_binding {

struct MaskInputs {
  Tensor queries, features, owner;
  MaskLossParams params;
  at::Device device() const { return queries.device(); }
};

// `alpha` below zero: no balance.
inline MaskInputs take_mask_inputs(const char* function, const Tensor& queries,
                                   const Tensor& features, const Tensor& owner, double gamma,
                                   double alpha) {
  TORCH_CHECK_VALUE(queries.dim() == 2, function, ": queries must have shape [M, D], got ",
                    queries.sizes());
  TORCH_CHECK_VALUE(features.dim() == 2, function, ": features must have shape [P, D], got ",
                    features.sizes());
  const int64_t m = queries.size(0), d = queries.size(1), p = features.size(0);
  const at::Device device = queries.device();
  check(function, "queries", queries, {m, d}, device);
  check(function, "features", features, {p, d}, device);
  check(function, "owner", owner, {p}, device, at::kInt);
  TORCH_CHECK_VALUE(m < (1 << 24) && d < (1 << 16), function,
                    ": at most 2^24 queries of 2^16 channels, got ", m, " of ", d);
  TORCH_CHECK_VALUE(gamma >= 0.0, function, ": gamma must be 0 or positive, got ", gamma);
  MaskInputs in = {queries.contiguous(), features.contiguous(), owner.contiguous(), {}};
  in.params = {data<float>(in.queries),
               data<float>(in.features),
               data<int32_t>(in.owner),
               static_cast<int>(m),
               p,
               static_cast<int>(d),
               static_cast<int>(d),
               static_cast<float>(gamma),
               static_cast<float>(alpha)};
  return in;
}

// What the forward pass keeps for the backward pass: a MaskOverlap of every query, as [M, 2].
inline MaskOverlap* overlaps(const Tensor& t) {
  static_assert(sizeof(MaskOverlap) == 2 * sizeof(double), "a row of two doubles");
  return data<MaskOverlap>(t);
}

inline Tensor doubles(at::IntArrayRef shape, at::Device device) {
  return uninitialised(shape, at::kDouble, device);
}

// What the backward pass gets and gives.
struct MaskGradInputs {
  Tensor overlap, focal, dice;  // in
  Tensor queries, features;     // out; empty where not wanted
};

inline MaskGradInputs take_mask_grads(const char* function, const MaskInputs& in,
                                      const Tensor& overlap, const Tensor& focal,
                                      const Tensor& dice, at::IntArrayRef wanted) {
  const int64_t m = in.params.query_count, d = in.params.channels, p = in.params.pixel_count;
  TORCH_CHECK_VALUE(wanted.size() == 2, function, ": expected 2 wishes, got ", wanted.size());
  check(function, "overlap", overlap, {m, 2}, in.device(), at::kDouble);
  check(function, "the gradient of focal", focal, {m}, in.device());
  check(function, "the gradient of dice", dice, {m}, in.device());
  const std::vector<int64_t> none = {0}, queries = {m, d}, features = {p, d};
  return {overlap.contiguous(), focal.contiguous(), dice.contiguous(),
          floats(wanted[0] ? queries : none, in.device()),
          floats(wanted[1] ? features : none, in.device())};
}

}  // namespace torch_binding
}  // namespace iqgs
