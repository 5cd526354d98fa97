// SPDX-License-Identifier: Apache-2.0
// Focal and dice loss of queries on a GPU, and their gradients.
#include "../cuda/mask_loss.h"

#include "../../bindings/cuda_prepare.h"
#include "../../bindings/library.h"
#include "mask_inputs.h"

namespace iqgs {
namespace torch_binding {
namespace {

// focal [M], dice [M], and state for the backward pass [M, 2] float64.
std::vector<Tensor> mask_loss(const Tensor& queries, const Tensor& features, const Tensor& owner,
                              double gamma, double alpha, int64_t stream) {
  const MaskInputs in = take_mask_inputs("mask_loss", queries, features, owner, gamma, alpha);
  const OnDevice on(in.device(), stream);
  const int64_t m = in.params.query_count;
  Tensor focal = floats({m}, in.device()), dice = floats({m}, in.device());
  Tensor overlap = doubles({m, 2}, in.device());
  Tensor memory = bytes(cuda::mask_loss_bytes(in.params), in.device());
  cuda::mask_losses(in.params, data<float>(focal), data<float>(dice), overlaps(overlap),
                    data<void>(memory), on.stream);
  return {focal, dice, overlap};
}

// Gradients of queries and features, an empty tensor where not wanted.
std::vector<Tensor> mask_loss_backward(const Tensor& queries, const Tensor& features,
                                       const Tensor& owner, double gamma, double alpha,
                                       const Tensor& overlap, const Tensor& grad_focal,
                                       const Tensor& grad_dice, at::IntArrayRef wanted,
                                       int64_t stream) {
  const char* const name = "mask_loss_backward";
  const MaskInputs in = take_mask_inputs(name, queries, features, owner, gamma, alpha);
  const OnDevice on(in.device(), stream);
  const MaskGradInputs grads = take_mask_grads(name, in, overlap, grad_focal, grad_dice, wanted);
  Tensor memory = bytes(cuda::mask_loss_bytes(in.params), in.device());
  cuda::mask_loss_grads(in.params, overlaps(grads.overlap), data<float>(grads.focal),
                        data<float>(grads.dice), wanted[0] ? data<float>(grads.queries) : nullptr,
                        wanted[1] ? data<float>(grads.features) : nullptr, data<void>(memory),
                        on.stream);
  return {grads.queries, grads.features};
}

IQGS_IMPLEMENT_CUDA(m) {
  m.impl("mask_loss", mask_loss);
  m.impl("mask_loss_backward", mask_loss_backward);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
