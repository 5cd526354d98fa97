// SPDX-License-Identifier: Apache-2.0
// L1 and SSIM of an image and its target on a GPU, and the gradient of the image.
#include "../cuda/image_loss.h"

#include "../../bindings/cuda_prepare.h"
#include "../../bindings/library.h"
#include "image_inputs.h"

namespace iqgs {
namespace torch_binding {
namespace {

std::vector<Tensor> image_loss(const Tensor& image, const Tensor& target, const Tensor& weight,
                               bool learns, int64_t stream) {
  ImageInputs in = take_image_inputs("image_loss", image, target, weight);
  const OnDevice on(in.device(), stream);
  const std::vector<Tensor> out = image_results(in, learns);
  Tensor memory = bytes(cuda::image_loss_bytes(in.params), in.device());
  cuda::compare_images(in.params, data<float>(out[0]), data<double>(out[1]), data<void>(memory),
                       on.stream);
  return out;
}

Tensor image_loss_backward(const Tensor& image, const Tensor& target, const Tensor& weight,
                           const Tensor& total, const Tensor& slope, const Tensor& losses,
                           int64_t stream) {
  const char* const name = "image_loss_backward";
  const ImageInputs in = take_image_inputs(name, image, target, weight);
  const OnDevice on(in.device(), stream);
  const ImageGradInputs g = take_image_grads(name, in, total, slope, losses);
  cuda::image_grads(g.params, data<double>(g.total), data<float>(g.losses), on.stream);
  return g.grad;
}

IQGS_IMPLEMENT_CUDA(m) {
  m.impl("image_loss", image_loss);
  m.impl("image_loss_backward", image_loss_backward);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
