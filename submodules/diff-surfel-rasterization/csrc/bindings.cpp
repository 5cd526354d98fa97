// SPDX-License-Identifier: Apache-2.0
// The operators of the CPU backend: allocate results, fill the kernels' structs, call them.
#include <torch/library.h>

#include "binding_inputs.h"
#include "cpu/splat_weights.h"

namespace iqgs {
namespace torch_binding {
namespace {

std::vector<Tensor> rasterize(at::TensorList splats, at::ArrayRef<double> camera,
                              at::IntArrayRef options) {
  const Inputs in = take_inputs("rasterize", splats);
  const View view = take_view("rasterize", camera, options);
  const int64_t w = view.camera.width, h = view.camera.height;
  std::vector<Tensor> out(STATE);
  std::vector<Tensor> state = prepare(in, view, out[RADII]);
  out[COLOR] = floats({3, h, w});
  out[FEATURES] = floats({in.channels(), h, w});
  for (int i : {ALPHA, DEPTH, MEDIAN, DISTORTION}) out[i] = floats({1, h, w});
  out[NORMAL] = floats({3, h, w});
  BlendParams p = blend_params(in, view, state);
  p.color = data<float>(out[COLOR]);
  p.feature = data<float>(out[FEATURES]);
  p.alpha = data<float>(out[ALPHA]);
  p.depth = data<float>(out[DEPTH]);
  p.median_depth = data<float>(out[MEDIAN]);
  p.normal = data<float>(out[NORMAL]);
  p.distortion = data<float>(out[DISTORTION]);
  blend_tiles(p, at::get_num_threads());
  out.insert(out.end(), state.begin(), state.end());
  return out;
}

// Image gradients of the backward pass, an empty tensor where there is none.
enum ImageGrad { G_COLOR, G_FEATURES, G_ALPHA, G_DEPTH, G_MEDIAN, G_NORMAL, G_DISTORTION, IMAGES };
// Parameter gradients, an empty tensor where not wanted.
enum Wanted {
  W_MEANS,
  W_SCALES,
  W_ROTATIONS,
  W_OPACITIES,
  W_COLORS,
  W_SH,
  W_FEATURES,
  W_SCREEN,
  W_SCREEN_ABS,
  PARAMETERS
};

// The channels with a gradient: normal, colour and features lie side by side in a splat's row.
void choose_channels(const Inputs& in, at::IntArrayRef wanted, BlendGradParams& p) {
  const int features = in.channels();
  const bool rgb = wanted[W_COLORS] || wanted[W_SH] || (in.sh.defined() && wanted[W_MEANS]);
  const bool active[3] = {p.normal && p.geometry, p.color && (rgb || p.geometry),
                          p.feature && features && (wanted[W_FEATURES] || p.geometry)};
  const int begin[3] = {0, 3, SHADE_CHANNELS}, end[3] = {3, 6, SHADE_CHANNELS + features};
  p.first_channel = p.channel_count = 0;
  int last = 0;
  for (int i = 2; i >= 0; --i)
    if (active[i]) p.first_channel = begin[i];
  for (int i = 0; i < 3; ++i)
    if (active[i]) last = end[i];
  p.channel_count = last ? last - p.first_channel : 0;
  constexpr int LINE = 16;  // floats of a cache line
  p.row_floats = (p.geometry ? MOMENTS : 0) + (p.channel_count + LINE - 1) / LINE * LINE;
}

BlendGradParams blend_grad_params(const Inputs& in, const View& view,
                                  const std::vector<Tensor>& state,
                                  const std::vector<Tensor>& grads, at::IntArrayRef wanted) {
  BlendGradParams p = {};
  p.forward = blend_params(in, view, state);
  auto grad = [&](int i) { return grads[i].numel() ? data<float>(grads[i]) : nullptr; };
  p.color = grad(G_COLOR);
  p.feature = grad(G_FEATURES);
  p.alpha = grad(G_ALPHA);
  p.depth = grad(G_DEPTH);
  p.median_depth = grad(G_MEDIAN);
  p.normal = grad(G_NORMAL);
  p.distortion = grad(G_DISTORTION);
  p.absolute = wanted[W_SCREEN_ABS] != 0;
  for (int i : {W_MEANS, W_SCALES, W_ROTATIONS, W_OPACITIES, W_SCREEN, W_SCREEN_ABS})
    p.geometry = p.geometry || wanted[i] != 0;
  choose_channels(in, wanted, p);
  return p;
}

std::vector<Tensor> parameter_grads(const Inputs& in, const BlendGradParams& p,
                                    at::IntArrayRef wanted) {
  const int end = p.first_channel + p.channel_count, color_end = SHADE_CHANNELS;
  const bool color = p.channel_count && p.first_channel < color_end && end >= color_end;
  const bool feature = p.channel_count && end > SHADE_CHANNELS;
  bool written[PARAMETERS];
  for (bool& w : written) w = p.geometry;
  written[W_COLORS] = color;
  written[W_SH] = p.row_floats > 0;
  written[W_FEATURES] = feature;

  const int64_t n = in.count(), k = in.sh.defined() ? in.sh.size(1) : 0;
  const std::vector<int64_t> shapes[PARAMETERS] = {
      {n, 3}, {n, 2}, {n, 4}, {n, 1}, {n, 3}, {n, k, 3}, {n, in.channels()}, {n, 3}, {n, 3}};
  std::vector<Tensor> out;
  // Zero where a gradient is wanted that no image asks for; the others are written whole.
  for (int i = 0; i < PARAMETERS; ++i) {
    out.push_back(floats(wanted[i] ? at::IntArrayRef(shapes[i]) : at::IntArrayRef({0})));
    if (!written[i]) out.back().zero_();
  }
  return out;
}

std::vector<Tensor> rasterize_backward(at::TensorList splats, at::ArrayRef<double> camera,
                                       at::IntArrayRef options, const Tensor& radii,
                                       at::TensorList saved, at::TensorList image_grads,
                                       at::IntArrayRef wanted) {
  const char* const name = "rasterize_backward";
  TORCH_CHECK_VALUE(
      saved.size() == STATES && image_grads.size() == IMAGES && wanted.size() == PARAMETERS, name,
      ": expected ", int(STATES), " saved tensors, ", int(IMAGES), " image gradients and ",
      int(PARAMETERS), " wishes");
  const Inputs in = take_inputs(name, splats);
  const View view = take_view(name, camera, options);
  const std::vector<Tensor> state(saved.begin(), saved.end());
  std::vector<Tensor> grads;
  for (const Tensor& g : image_grads) grads.push_back(g.contiguous());
  const int64_t w = view.camera.width, h = view.camera.height;
  const int64_t planes[IMAGES] = {3, in.channels(), 1, 1, 1, 3, 1};
  for (int i = 0; i < IMAGES; ++i)
    if (grads[i].numel()) check(name, "an image gradient", grads[i], {planes[i], h, w});

  const int threads = at::get_num_threads();
  BlendGradParams blend = blend_grad_params(in, view, state, grads, wanted);
  Tensor rows = floats({state[SPLAT].size(0), blend.row_floats});
  blend.rows = data<float>(rows);
  std::vector<Tensor> out = parameter_grads(in, blend, wanted);
  if (blend.row_floats == 0) return out;
  blend_tiles_backward(blend, threads);

  auto slot = [&](int i) { return wanted[i] ? data<float>(out[i]) : nullptr; };
  ProjectGradParams p = {project_params(in, view, state, Tensor(), radii),
                         data<int32_t>(state[OFFSET]),
                         blend.rows,
                         blend.row_floats,
                         blend.geometry,
                         blend.first_channel,
                         blend.channel_count,
                         in.channels(),
                         slot(W_MEANS),
                         slot(W_SCALES),
                         slot(W_ROTATIONS),
                         slot(W_OPACITIES),
                         slot(W_COLORS),
                         slot(W_SH),
                         slot(W_FEATURES),
                         slot(W_SCREEN),
                         slot(W_SCREEN_ABS)};
  project_splats_backward(p, threads);
  return out;
}

// row_start [H W + 1] int64, splat [nnz] int32, weight [nnz] float32.
std::vector<Tensor> blend_weights(at::TensorList splats, at::ArrayRef<double> camera,
                                  at::IntArrayRef options, double min_weight) {
  const Inputs in = take_inputs("blend_weights", splats);
  const View view = take_view("blend_weights", camera, options);
  const int threads = at::get_num_threads();
  Tensor radii;
  std::vector<Tensor> state = prepare(in, view, radii);
  const int64_t pixels = int64_t(view.camera.width) * view.camera.height;
  Tensor count = ints({pixels});
  Tensor row_start = uninitialised({pixels + 1}, at::kLong);
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

SparseParams sparse_params(const char* name, const Tensor& row_start, const Tensor& splat,
                           const Tensor& weight, const Tensor& rows, bool all_rows,
                           int64_t splat_count, int64_t channels) {
  check(name, "row_start", row_start, {row_start.numel()}, at::kLong);
  check(name, "splat", splat, {splat.numel()}, at::kInt);
  check(name, "weight", weight, {splat.numel()});
  check(name, "rows", rows, {rows.numel()}, at::kLong);
  for (const Tensor& t : {row_start, splat, weight, rows})
    TORCH_CHECK_VALUE(t.is_contiguous(), name, ": the weights and rows must be contiguous");
  return {data<int64_t>(row_start),
          data<int32_t>(splat),
          data<float>(weight),
          all_rows ? nullptr : data<int64_t>(rows),
          all_rows ? row_start.numel() - 1 : rows.numel(),
          splat_count,
          static_cast<int>(channels)};
}

Tensor splat_weights(const Tensor& row_start, const Tensor& splat, const Tensor& weight,
                     const Tensor& rows, bool all_rows, const Tensor& values) {
  const char* const name = "splat_weights";
  TORCH_CHECK_VALUE(values.dim() == 2, name, ": values must have shape [N, C], got ",
                    values.sizes());
  check(name, "values", values, values.sizes());
  const Tensor dense = values.contiguous();
  SparseParams p =
      sparse_params(name, row_start, splat, weight, rows, all_rows, dense.size(0), dense.size(1));
  Tensor out = floats({p.row_count, p.channels});
  gather_values(p, data<float>(dense), data<float>(out), at::get_num_threads());
  return out;
}

Tensor splat_weights_backward(const Tensor& row_start, const Tensor& splat, const Tensor& weight,
                              const Tensor& rows, bool all_rows, const Tensor& grad,
                              int64_t splat_count) {
  const char* const name = "splat_weights_backward";
  TORCH_CHECK_VALUE(grad.dim() == 2, name, ": grad must have shape [P, C], got ", grad.sizes());
  const Tensor dense = grad.contiguous();
  SparseParams p =
      sparse_params(name, row_start, splat, weight, rows, all_rows, splat_count, dense.size(1));
  check(name, "grad", dense, {p.row_count, p.channels});
  Tensor out = floats({splat_count, p.channels});
  scatter_grads(p, data<float>(dense), data<float>(out), at::get_num_threads());
  return out;
}

std::string instruction_set() {
  return kernels().name;
}

TORCH_LIBRARY(iqgs_surfel, m) {
  m.def("rasterize(Tensor[] splats, float[] camera, int[] options) -> Tensor[]");
  m.def(
      "rasterize_backward(Tensor[] splats, float[] camera, int[] options, Tensor radii, "
      "Tensor[] saved, Tensor[] image_grads, int[] wanted) -> Tensor[]");
  m.def(
      "blend_weights(Tensor[] splats, float[] camera, int[] options, float min_weight) -> "
      "Tensor[]");
  m.def(
      "splat_weights(Tensor row_start, Tensor splat, Tensor weight, Tensor rows, bool all_rows, "
      "Tensor values) -> Tensor");
  m.def(
      "splat_weights_backward(Tensor row_start, Tensor splat, Tensor weight, Tensor rows, "
      "bool all_rows, Tensor grad, int splat_count) -> Tensor");
  m.def("instruction_set() -> str", instruction_set);
}

TORCH_LIBRARY_IMPL(iqgs_surfel, CPU, m) {
  m.impl("rasterize", rasterize);
  m.impl("rasterize_backward", rasterize_backward);
  m.impl("blend_weights", blend_weights);
  m.impl("splat_weights", splat_weights);
  m.impl("splat_weights_backward", splat_weights_backward);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
