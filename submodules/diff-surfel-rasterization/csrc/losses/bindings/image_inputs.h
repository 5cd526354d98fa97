// SPDX-License-Identifier: Apache-2.0
// What the image losses of both devices share: checks, and the structs of the kernels.
#pragma once

#include "../../bindings/inputs.h"
#include "../image_math.h"

namespace iqgs {
namespace torch_binding {

struct ImageInputs {
  Tensor image, target, weight;
  ImageLossParams params;
  at::Device device() const { return image.device(); }
};

// `weight` without a number: one everywhere.
inline ImageInputs take_image_inputs(const char* function, const Tensor& image,
                                     const Tensor& target, const Tensor& weight) {
  TORCH_CHECK_VALUE(image.dim() == 3, function, ": image must have shape [C, H, W], got ",
                    image.sizes());
  const int64_t c = image.size(0), h = image.size(1), w = image.size(2);
  check(function, "image", image, {c, h, w}, image.device());
  check(function, "target", target, {c, h, w}, image.device());
  check_sides(function, w, h);
  TORCH_CHECK_VALUE(c > 0 && c < (1 << 16), function, ": channels must be 1 .. 65535, got ", c);
  const bool weighted = weight.numel() > 0;
  if (weighted) check(function, "weight", weight, {h, w}, image.device());
  ImageInputs in = {image.contiguous(), target.contiguous(), weight.contiguous(), {}};
  in.params = {data<float>(in.image),
               data<float>(in.target),
               weighted ? data<float>(in.weight) : nullptr,
               static_cast<int>(c),
               static_cast<int>(h),
               static_cast<int>(w),
               nullptr};
  return in;
}

// What the forward pass gives: the losses [2]; the sum of the weights [1] float64 and the slope
// [C, H, W], empty where not wanted, for the backward pass.
inline std::vector<Tensor> image_results(ImageInputs& in, bool learns) {
  const at::Device device = in.device();
  Tensor slope = learns ? floats(in.image.sizes(), device) : floats({0}, device);
  if (learns) in.params.slope = data<float>(slope);
  return {floats({2}, device), uninitialised({1}, at::kDouble, device), slope};
}

// What the backward pass gets and gives.
struct ImageGradInputs {
  Tensor total, slope, losses;  // in: what the forward pass kept, and the losses' gradients [2]
  Tensor grad;                  // out
  ImageGradParams params;
};

inline ImageGradInputs take_image_grads(const char* function, const ImageInputs& in,
                                        const Tensor& total, const Tensor& slope,
                                        const Tensor& losses) {
  check(function, "total", total, {1}, in.device(), at::kDouble);
  check(function, "slope", slope, in.image.sizes(), in.device());
  check(function, "the gradient of the losses", losses, {2}, in.device());
  ImageGradInputs g = {total.contiguous(),
                       slope.contiguous(),
                       losses.contiguous(),
                       floats(in.image.sizes(), in.device()),
                       {in.params, nullptr}};
  g.params.forward.slope = data<float>(g.slope);
  g.params.grad = data<float>(g.grad);
  return g;
}

}  // namespace torch_binding
}  // namespace iqgs
