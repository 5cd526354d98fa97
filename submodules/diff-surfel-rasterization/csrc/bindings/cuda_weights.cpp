// SPDX-License-Identifier: Apache-2.0
// Blending weights of one view on a GPU, pixel by pixel.
#include <ATen/ops/cumsum.h>

#include "cuda_prepare.h"
#include "labels.h"
#include "library.h"

namespace iqgs {
namespace torch_binding {
namespace {

// row_start [H W + 1] int64, splat [nnz] int32, weight [nnz] float32.
std::vector<Tensor> blend_weights(at::TensorList splats, at::ArrayRef<double> camera,
                                  at::IntArrayRef options, double min_weight, int64_t stream) {
  const View view = take_view("blend_weights", camera, options);
  const Inputs in = take_inputs("blend_weights", splats, view.primitive);
  const OnDevice on(in.device(), stream);
  const int64_t pixels = int64_t(view.camera.width) * view.camera.height;
  Tensor radii, count = uninitialised({pixels}, at::kLong, in.device());
  cuda::WeightParams p = {
      {}, static_cast<float>(min_weight), nullptr, data<int64_t>(count), nullptr, nullptr};
  const std::vector<Tensor> state = prepare_and_blend(
      in, view, radii, on.stream, [&](const BlendParams& blend, const cuda::PixelTotals&) {
        p.blend = blend;
        cuda::weigh_tiles(p, on.stream);
      });
  Tensor row_start = uninitialised({pixels + 1}, at::kLong, in.device());
  row_start.narrow(0, 0, 1).zero_();
  row_start.narrow(0, 1, pixels).copy_(at::cumsum(count, 0));
  const int64_t entries = row_start[pixels].item<int64_t>();  // waits: once a view, not once a step
  Tensor splat = ints({entries}, in.device()), weight = floats({entries}, in.device());
  p.row_start = data<int64_t>(row_start);
  p.splat = data<int32_t>(splat);
  p.weight = data<float>(weight);
  cuda::weigh_tiles(p, on.stream);
  return {row_start, splat, weight};
}

void add_label_weights(at::TensorList splats, at::ArrayRef<double> camera,
                       at::IntArrayRef options, double min_weight, const Tensor& labels,
                       const Tensor& sums, int64_t stream) {
  const char* const name = "add_label_weights";
  const View view = take_view(name, camera, options);
  const Inputs in = take_inputs(name, splats, view.primitive);
  const OnDevice on(in.device(), stream);
  const Tensor maps = labels.contiguous();
  check_label_sums(name, in, view, maps, sums);
  Tensor radii;
  // The lists alone: what is done while they may still be too short is done again, and twice would
  // be counted twice.
  const std::vector<Tensor> state = prepare_and_blend(
      in, view, radii, on.stream, [](const BlendParams&, const cuda::PixelTotals&) {});
  cuda::weigh_tiles(LabelWeightParams{blend_params(in, view, state), static_cast<float>(min_weight),
                                      data<int32_t>(maps), static_cast<int>(maps.size(0)),
                                      sums.size(1), data<int64_t>(sums)},
                    on.stream);
}

IQGS_IMPLEMENT_CUDA(m) {
  m.impl("blend_weights", blend_weights);
  m.impl("add_label_weights", add_label_weights);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
