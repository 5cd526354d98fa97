// SPDX-License-Identifier: Apache-2.0
// What the backward passes of both devices share: which gradients come in, which are wanted, and
// the structs of the kernels.
#pragma once

#include "inputs.h"

namespace iqgs {
namespace torch_binding {

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
inline void choose_channels(const Inputs& in, at::IntArrayRef wanted, BlendGradParams& p) {
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

inline BlendGradParams blend_grad_params(const Inputs& in, const View& view,
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
  p.signed_too = wanted[W_SCREEN] != 0;
  for (int i : {W_MEANS, W_SCALES, W_ROTATIONS, W_OPACITIES, W_SCREEN, W_SCREEN_ABS})
    p.geometry = p.geometry || wanted[i] != 0;
  choose_channels(in, wanted, p);
  return p;
}

inline std::vector<Tensor> parameter_grads(const Inputs& in, const BlendGradParams& p,
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
      {n, 3}, {n, in.scales.size(1)}, {n, 4}, {n, 1}, {n, 3}, {n, k, 3}, {n, in.channels()}, {n, 3}, {n, 3}};
  std::vector<Tensor> out;
  // Zero where a gradient is wanted that no image asks for; the others are written whole.
  for (int i = 0; i < PARAMETERS; ++i) {
    out.push_back(
        floats(wanted[i] ? at::IntArrayRef(shapes[i]) : at::IntArrayRef({0}), in.device()));
    if (!written[i]) out.back().zero_();
  }
  return out;
}

// The image gradients, contiguous and checked; empty where there is none.
inline std::vector<Tensor> take_grads(const char* function, const Inputs& in, const View& view,
                                      at::TensorList saved, int states, at::TensorList image_grads,
                                      at::IntArrayRef wanted) {
  TORCH_CHECK_VALUE(static_cast<int>(saved.size()) == states && image_grads.size() == IMAGES &&
                        wanted.size() == PARAMETERS,
                    function, ": expected ", states, " saved tensors, ", int(IMAGES),
                    " image gradients and ", int(PARAMETERS), " wishes");
  std::vector<Tensor> grads;
  for (const Tensor& g : image_grads) grads.push_back(g.contiguous());
  const int64_t w = view.camera.width, h = view.camera.height;
  const int64_t planes[IMAGES] = {3, in.channels(), 1, 1, 1, 3, 1};
  for (int i = 0; i < IMAGES; ++i)
    if (grads[i].numel())
      check(function, "an image gradient", grads[i], {planes[i], h, w}, in.device());
  return grads;
}

// From the pairs' gradients to those of the parameters; null where not wanted.
inline ProjectGradParams project_grad_params(const Inputs& in, const View& view,
                                             const std::vector<Tensor>& state, const Tensor& radii,
                                             const BlendGradParams& blend,
                                             const std::vector<Tensor>& out,
                                             at::IntArrayRef wanted) {
  auto slot = [&](int i) { return wanted[i] ? data<float>(out[i]) : nullptr; };
  return {project_params(in, view, state, Tensor(), radii),
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
}

}  // namespace torch_binding
}  // namespace iqgs
