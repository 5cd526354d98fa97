// SPDX-License-Identifier: Apache-2.0
// Blending weights of one view on the CPU, by quads of pixels, and products with them.
#include "../cpu/quad_weights.h"
#include "cpu_prepare.h"
#include "library.h"
#include "quads.h"

namespace iqgs {
namespace torch_binding {
namespace {

template <class T>
Tensor copied(const std::vector<T>& values, at::ScalarType type) {
  Tensor out = at::empty({static_cast<int64_t>(values.size())}, at::TensorOptions(type));
  std::copy(values.begin(), values.end(), data<T>(out));
  return out;
}

// quad_start [Q + 1] int64, row [E] int32, weight [E, 4] float16, extra [S] int32.
std::vector<Tensor> quad_weights(at::TensorList splats, at::ArrayRef<double> camera,
                                 at::IntArrayRef options, double min_weight, int64_t) {
  const View view = take_view("quad_weights", camera, options);
  const Inputs in = take_inputs("quad_weights", splats, view.primitive);
  const int threads = at::get_num_threads();
  const QuadGrid grid = {view.camera.width, view.camera.height};
  const int64_t quads = quad_count(grid);
  Tensor radii;
  std::vector<Tensor> state = prepare(in, view, radii);
  Tensor count = ints({quads});
  Tensor quad_start = uninitialised({quads + 1}, at::kLong, at::kCPU);
  QuadWeightParams p = {};
  p.blend = blend_params(in, view, state);
  p.min_weight = static_cast<float>(min_weight);
  p.count = data<int32_t>(count);
  weigh_tiles(p, threads);
  int64_t* start = data<int64_t>(quad_start);
  start[0] = 0;
  for (int64_t q = 0; q < quads; ++q) start[q + 1] = start[q] + p.count[q];
  // Kept from step to step: not from the pool, which rounds sizes up.
  Tensor row = at::empty({start[quads]}, at::kInt);
  Tensor weight = at::empty({start[quads], QUAD_PIXELS}, at::kHalf);
  p.start = start;
  p.row = data<int32_t>(row);
  p.weight = data<uint16_t>(weight);
  weigh_tiles(p, threads);
  return {quad_start, row, weight, copied(assign_rows(grid, start, p.row, in.count()), at::kInt)};
}

Tensor splat_quads(at::TensorList weights, at::IntArrayRef sizes, const Tensor& values, int64_t) {
  const char* const name = "splat_quads";
  const QuadTable table = take_quads(name, weights, sizes);
  const Tensor dense = values.contiguous();
  check_rows(name, "values", dense, table.splat_count, weights[0].device());
  const int channels = static_cast<int>(dense.size(1));
  Tensor out = floats({pixels_of(table), channels});
  gather_quads({table, channels, data<float>(dense), data<float>(out)}, at::get_num_threads());
  return out;
}

// Needs no order by splat: the rows of the table are made for sums side by side.
Tensor splat_quads_backward(at::TensorList weights, at::IntArrayRef sizes, at::TensorList,
                            const Tensor& grad, int64_t) {
  const char* const name = "splat_quads_backward";
  const QuadTable table = take_quads(name, weights, sizes);
  const Tensor dense = grad.contiguous();
  check_rows(name, "grad", dense, pixels_of(table), weights[0].device());
  const int channels = static_cast<int>(dense.size(1));
  Tensor out = floats({table.splat_count + table.extra_count, channels});
  scatter_quads({table, channels, data<float>(dense), data<float>(out)}, at::get_num_threads());
  return out.narrow(0, 0, table.splat_count);
}

// row_start [P + 1] int64, splat [nnz] int32 among the touched, weight [nnz], touched [U] int64.
std::vector<Tensor> sample_quads(at::TensorList weights, at::IntArrayRef sizes,
                                 const Tensor& pixels, int64_t) {
  const char* const name = "sample_quads";
  const int64_t count = pixels.numel();
  const QuadTable table = take_quads(name, weights, sizes);
  check(name, "pixels", pixels, {count}, weights[0].device(), at::kLong);
  const Tensor chosen = pixels.contiguous();
  Tensor row_start = uninitialised({count + 1}, at::kLong, at::kCPU);
  int64_t* const start = data<int64_t>(row_start);
  const PixelRows rows(table, data<int64_t>(chosen), count, start, at::get_num_threads());
  Tensor splat = ints({start[count]}), weight = floats({start[count]});
  rows.write(data<int32_t>(splat), data<float>(weight));
  return {row_start, splat, weight, copied(rows.touched(), at::kLong)};
}

IQGS_IMPLEMENT_CPU(m) {
  m.impl("quad_weights", quad_weights);
  m.impl("splat_quads", splat_quads);
  m.impl("splat_quads_backward", splat_quads_backward);
  m.impl("sample_quads", sample_quads);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
