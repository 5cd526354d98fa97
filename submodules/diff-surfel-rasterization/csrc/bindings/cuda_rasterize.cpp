// SPDX-License-Identifier: Apache-2.0
// Images of one view on a GPU, and their gradients.
#include "cuda_prepare.h"
#include "grads.h"
#include "library.h"

namespace iqgs {
namespace torch_binding {
namespace {

std::vector<Tensor> rasterize(at::TensorList splats, at::ArrayRef<double> camera,
                              at::IntArrayRef options, int64_t stream) {
  const View view = take_view("rasterize", camera, options);
  const Inputs in = take_inputs("rasterize", splats, view.primitive);
  const OnDevice on(in.device(), stream);
  const int64_t w = view.camera.width, h = view.camera.height;
  std::vector<Tensor> out(STATE);
  const auto blend = [&](BlendParams p, const cuda::PixelTotals& totals) {
    out[COLOR] = floats({3, h, w}, in.device());  // here, where the device already has work
    out[FEATURES] = floats({in.channels(), h, w}, in.device());
    for (int i : {ALPHA, DEPTH, MEDIAN, DISTORTION}) out[i] = floats({1, h, w}, in.device());
    out[NORMAL] = floats({3, h, w}, in.device());
    point_at_images(out, p);
    cuda::blend_tiles(p, totals, on.stream);
  };
  std::vector<Tensor> state = prepare_and_blend(in, view, out[RADII], on.stream, blend);
  out.insert(out.end(), state.begin(), state.end());
  return out;
}

std::vector<Tensor> rasterize_backward(at::TensorList splats, at::ArrayRef<double> camera,
                                       at::IntArrayRef options, const Tensor& radii,
                                       at::TensorList saved, at::TensorList image_grads,
                                       at::IntArrayRef wanted, int64_t stream) {
  const char* const name = "rasterize_backward";
  const View view = take_view(name, camera, options);
  const Inputs in = take_inputs(name, splats, view.primitive);
  const OnDevice on(in.device(), stream);
  const std::vector<Tensor> state(saved.begin(), saved.end());
  const std::vector<Tensor> grads =
      take_grads(name, in, view, saved, CUDA_STATES, image_grads, wanted);
  BlendGradParams blend = blend_grad_params(in, view, state, grads, wanted);
  Tensor rows = floats({state[SPLAT].size(0), blend.row_floats}, in.device());
  blend.rows = data<float>(rows);
  if (blend.row_floats == 0) return parameter_grads(in, blend, wanted);
  cuda::blend_tiles_backward(blend, pixel_totals(state), on.stream);
  std::vector<Tensor> out = parameter_grads(in, blend, wanted);  // while the device works
  Tensor moments = floats({blend.geometry ? in.count() : 0, MOMENTS}, in.device());
  Tensor shades = floats({in.count(), SHADE_CHANNELS}, in.device());
  cuda::project_splats_backward(project_grad_params(in, view, state, radii, blend, out, wanted),
                                data<float>(moments), data<float>(shades), on.stream);
  return out;
}

IQGS_IMPLEMENT_CUDA(m) {
  m.impl("rasterize", rasterize);
  m.impl("rasterize_backward", rasterize_backward);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
