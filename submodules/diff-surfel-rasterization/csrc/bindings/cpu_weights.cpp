// SPDX-License-Identifier: Apache-2.0
// Blending weights of one view on the CPU, pixel by pixel, and products with them.
#include "../cpu/splat_weights.h"
#include "cpu_prepare.h"
#include "library.h"
#include "sparse.h"

namespace iqgs {
namespace torch_binding {
namespace {

// row_start [H W + 1] int64, splat [nnz] int32, weight [nnz] float32.
std::vector<Tensor> blend_weights(at::TensorList splats, at::ArrayRef<double> camera,
                                  at::IntArrayRef options, double min_weight, int64_t) {
  const View view = take_view("blend_weights", camera, options);
  const Inputs in = take_inputs("blend_weights", splats, view.primitive);
  const int threads = at::get_num_threads();
  Tensor radii;
  std::vector<Tensor> state = prepare(in, view, radii);
  const int64_t pixels = int64_t(view.camera.width) * view.camera.height;
  Tensor count = ints({pixels});
  Tensor row_start = uninitialised({pixels + 1}, at::kLong, at::kCPU);
  WeightParams p = {blend_params(in, view, state),
                    static_cast<float>(min_weight),
                    nullptr,
                    data<int32_t>(count),
                    nullptr,
                    nullptr};
  weigh_tiles(p, threads);
  int64_t* start = data<int64_t>(row_start);
  start[0] = 0;
  for (int64_t i = 0; i < pixels; ++i) start[i + 1] = start[i] + p.count[i];
  Tensor splat = ints({start[pixels]}), weight = floats({start[pixels]});
  p.row_start = start;
  p.splat = data<int32_t>(splat);
  p.weight = data<float>(weight);
  weigh_tiles(p, threads);
  return {row_start, splat, weight};
}

Tensor splat_weights(const Tensor& row_start, const Tensor& splat, const Tensor& weight,
                     const Tensor& rows, bool all_rows, const Tensor& values, int64_t) {
  const char* const name = "splat_weights";
  TORCH_CHECK_VALUE(values.dim() == 2, name, ": values must have shape [N, C], got ",
                    values.sizes());
  check(name, "values", values, values.sizes(), row_start.device());
  const Tensor dense = values.contiguous();
  SparseParams p =
      sparse_params(name, row_start, splat, weight, rows, all_rows, dense.size(0), dense.size(1));
  Tensor out = floats({p.row_count, p.channels});
  gather_values(p, data<float>(dense), data<float>(out), at::get_num_threads());
  return out;
}

Tensor splat_weights_backward(const Tensor& row_start, const Tensor& splat, const Tensor& weight,
                              const Tensor& rows, bool all_rows, const Tensor& grad,
                              int64_t splat_count, int64_t) {
  const char* const name = "splat_weights_backward";
  TORCH_CHECK_VALUE(grad.dim() == 2, name, ": grad must have shape [P, C], got ", grad.sizes());
  const Tensor dense = grad.contiguous();
  SparseParams p =
      sparse_params(name, row_start, splat, weight, rows, all_rows, splat_count, dense.size(1));
  check(name, "grad", dense, {p.row_count, p.channels}, row_start.device());
  Tensor out = floats({splat_count, p.channels});
  scatter_grads(p, data<float>(dense), data<float>(out), at::get_num_threads());
  return out;
}

IQGS_IMPLEMENT_CPU(m) {
  m.impl("blend_weights", blend_weights);
  m.impl("splat_weights", splat_weights);
  m.impl("splat_weights_backward", splat_weights_backward);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
