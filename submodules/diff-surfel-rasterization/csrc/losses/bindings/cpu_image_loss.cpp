// SPDX-License-Identifier: Apache-2.0
// L1 and SSIM of an image and its target on the CPU, and the gradient of the image.
#include <ATen/Parallel.h>

#include "../../bindings/library.h"
#include "../cpu/image_loss.h"
#include "image_inputs.h"

namespace iqgs {
namespace torch_binding {
namespace {

std::vector<Tensor> image_loss(const Tensor& image, const Tensor& target, const Tensor& weight,
                               bool learns, int64_t) {
  ImageInputs in = take_image_inputs("image_loss", image, target, weight);
  const std::vector<Tensor> out = image_results(in, learns);
  const ImageSums sums = image_sums(in.params, at::get_num_threads());
  image_losses(sums, in.params.channels, data<float>(out[0]));
  *data<double>(out[1]) = sums.weight;
  return out;
}

Tensor image_loss_backward(const Tensor& image, const Tensor& target, const Tensor& weight,
                           const Tensor& total, const Tensor& slope, const Tensor& losses,
                           int64_t) {
  const char* const name = "image_loss_backward";
  const ImageInputs in = take_image_inputs(name, image, target, weight);
  const ImageGradInputs g = take_image_grads(name, in, total, slope, losses);
  const ImageScales scales =
      image_scales(*data<double>(g.total), in.params.channels, data<float>(g.losses));
  image_grads(g.params, scales, at::get_num_threads());
  return g.grad;
}

IQGS_IMPLEMENT_CPU(m) {
  m.impl("image_loss", image_loss);
  m.impl("image_loss_backward", image_loss_backward);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
