// SPDX-License-Identifier: Apache-2.0
// What the normal losses of both devices share: checks, and the struct of the kernels.
#pragma once

#include "../../bindings/inputs.h"
#include "../normal_math.h"

namespace iqgs {
namespace torch_binding {

struct NormalInputs {
  Tensor normal, depth, alpha, median;
  NormalLossParams params;
  at::Device device() const { return normal.device(); }
  int64_t pixels() const { return int64_t(params.height) * params.width; }
};

// `pinhole`: fx, fy, cx, cy; the centre of the first pixel is at (0.5, 0.5). `median` is not read,
// and may be without a number, where its share is 0.
inline NormalInputs take_normal_inputs(const Tensor& normal, const Tensor& depth,
                                       const Tensor& alpha, const Tensor& median,
                                       at::ArrayRef<double> pinhole, double median_share) {
  const char* const name = "normal_loss";
  TORCH_CHECK_VALUE(normal.dim() == 3, name, ": normal must have shape [3, H, W], got ",
                    normal.sizes());
  const int64_t h = normal.size(1), w = normal.size(2);
  check_sides(name, w, h);
  check(name, "normal", normal, {3, h, w}, normal.device());
  check(name, "depth", depth, {1, h, w}, normal.device());
  check(name, "alpha", alpha, {1, h, w}, normal.device());
  TORCH_CHECK_VALUE(pinhole.size() == 4, name, ": expected fx, fy, cx, cy, got ", pinhole.size(),
                    " numbers");
  const bool mixed = median_share != 0.0;
  if (mixed) check(name, "median", median, {1, h, w}, normal.device());
  NormalInputs in = {normal.contiguous(), depth.contiguous(), alpha.contiguous(),
                     mixed ? median.contiguous() : Tensor(), {}};
  const double fx = pinhole[0], fy = pinhole[1];
  NormalLossParams& p = in.params;
  p.normal = data<float>(in.normal);
  p.depth = data<float>(in.depth);
  p.alpha = data<float>(in.alpha);
  p.median = data<float>(in.median);
  p.height = static_cast<int>(h), p.width = static_cast<int>(w);
  p.median_share = static_cast<float>(median_share);
  p.rays = {static_cast<float>(1.0 / fx), static_cast<float>(1.0 / fy),
            static_cast<float>((0.5 - pinhole[2]) / fx),
            static_cast<float>((0.5 - pinhole[3]) / fy)};
  return in;
}

// The loss [] and the slopes [5 or 6, H, W], empty where not wanted.
inline std::vector<Tensor> normal_results(NormalInputs& in, bool learns) {
  const int64_t maps = in.params.median ? 6 : 5;
  Tensor slopes = learns ? floats({maps, in.params.height, in.params.width}, in.device())
                         : floats({0}, in.device());
  if (learns) in.params.slopes = data<float>(slopes);
  return {floats({}, in.device()), slopes};
}

}  // namespace torch_binding
}  // namespace iqgs
