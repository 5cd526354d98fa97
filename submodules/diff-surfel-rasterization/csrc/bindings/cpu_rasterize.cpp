// SPDX-License-Identifier: Apache-2.0
// Images of one view on the CPU, and their gradients: allocate results, fill the kernels' structs,
// call them.
#include "cpu_prepare.h"
#include "grads.h"
#include "library.h"

namespace iqgs {
namespace torch_binding {
namespace {

std::vector<Tensor> rasterize(at::TensorList splats, at::ArrayRef<double> camera,
                              at::IntArrayRef options, int64_t) {
  const View view = take_view("rasterize", camera, options);
  const Inputs in = take_inputs("rasterize", splats, view.primitive);
  const int64_t w = view.camera.width, h = view.camera.height;
  std::vector<Tensor> out(STATE);
  std::vector<Tensor> state = prepare(in, view, out[RADII]);
  out[COLOR] = floats({3, h, w});
  out[FEATURES] = floats({in.channels(), h, w});
  for (int i : {ALPHA, DEPTH, MEDIAN, DISTORTION}) out[i] = floats({1, h, w});
  out[NORMAL] = floats({3, h, w});
  BlendParams p = blend_params(in, view, state);
  point_at_images(out, p);
  blend_tiles(p, at::get_num_threads());
  out.insert(out.end(), state.begin(), state.end());
  return out;
}

std::vector<Tensor> rasterize_backward(at::TensorList splats, at::ArrayRef<double> camera,
                                       at::IntArrayRef options, const Tensor& radii,
                                       at::TensorList saved, at::TensorList image_grads,
                                       at::IntArrayRef wanted, int64_t) {
  const char* const name = "rasterize_backward";
  const View view = take_view(name, camera, options);
  const Inputs in = take_inputs(name, splats, view.primitive);
  const std::vector<Tensor> state(saved.begin(), saved.end());
  const std::vector<Tensor> grads = take_grads(name, in, view, saved, STATES, image_grads, wanted);
  const int threads = at::get_num_threads();
  BlendGradParams blend = blend_grad_params(in, view, state, grads, wanted);
  Tensor rows = floats({state[SPLAT].size(0), blend.row_floats});
  blend.rows = data<float>(rows);
  std::vector<Tensor> out = parameter_grads(in, blend, wanted);
  if (blend.row_floats == 0) return out;
  blend_tiles_backward(blend, threads);
  project_splats_backward(project_grad_params(in, view, state, radii, blend, out, wanted), threads);
  return out;
}

std::string set_in_use() {
  return kernels().name;
}

IQGS_IMPLEMENT_CPU(m) {
  m.impl("rasterize", rasterize);
  m.impl("rasterize_backward", rasterize_backward);
}

TORCH_LIBRARY_FRAGMENT(iqgs_surfel, m) {
  m.def("instruction_set() -> str", set_in_use);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
