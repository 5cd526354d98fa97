// SPDX-License-Identifier: Apache-2.0
// What the operators have in common: checks that name function, argument, expected and got, the
// way from lists of tensors and numbers to the kernels' structs.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <vector>

#include "../common/params.h"
#include "../cpu/memory_pool.h"

namespace iqgs {
namespace torch_binding {

using at::Tensor;

// Indices into the list that `rasterize` returns: images, then what the backward pass reads.
enum Result { COLOR, FEATURES, ALPHA, DEPTH, MEDIAN, NORMAL, DISTORTION, RADII, STATE };
// Indices into the saved state.
enum State { RECORDS, FOOTPRINTS, SHADES, OFFSET, START, SPLAT, ROW, MASK, USED, STATES };

inline void check(const char* function, const char* name, const Tensor& t, at::IntArrayRef shape,
                  at::Device device, at::ScalarType type = at::kFloat) {
  TORCH_CHECK_VALUE(t.device() == device, function, ": ", name, " must be on ", device, ", got ",
                    t.device());
  TORCH_CHECK_VALUE(t.scalar_type() == type, function, ": ", name, " must be ", type, ", got ",
                    t.scalar_type());
  TORCH_CHECK_VALUE(t.sizes() == shape, function, ": ", name, " must have shape ", shape, ", got ",
                    t.sizes());
}

// The inputs, contiguous; `colors` or `sh` is undefined where the other is given.
struct Inputs {
  Tensor means, scales, rotations, opacities, colors, sh, features;
  at::Device device() const { return means.device(); }
  int64_t count() const { return means.size(0); }
  int channels() const { return static_cast<int>(features.size(1)); }
};

inline int64_t scale_count(Primitive primitive) {
  return primitive == Primitive::SURFEL ? 2 : 3;
}

inline Inputs take_inputs(const char* function, at::TensorList tensors,
                          Primitive primitive) {
  TORCH_CHECK_VALUE(tensors.size() == 7, function, ": expected 7 splat tensors, got ",
                    tensors.size());
  std::vector<Tensor> t;
  for (const Tensor& x : tensors) t.push_back(x.contiguous());
  TORCH_CHECK_VALUE(t[0].dim() == 2, function, ": means must have shape [N, 3], got ",
                    t[0].sizes());
  const int64_t n = t[0].size(0);
  TORCH_CHECK_VALUE(n < (int64_t(1) << 31), function, ": at most 2^31 - 1 splats, got ", n);
  const at::Device device = t[0].device();
  check(function, "means", t[0], {n, 3}, device);
  check(function, "scales", t[1], {n, scale_count(primitive)}, device);
  check(function, "rotations", t[2], {n, 4}, device);
  check(function, "opacities", t[3], {n, 1}, device);
  TORCH_CHECK_VALUE((t[4].numel() == 0) != (t[5].numel() == 0) || n == 0, function,
                    ": exactly one of colors and sh must be given");
  Inputs in = {t[0], t[1], t[2], t[3], {}, {}, t[6]};
  if (t[5].numel()) {
    TORCH_CHECK_VALUE(t[5].dim() == 3, function, ": sh must have shape [N, K, 3], got ",
                      t[5].sizes());
    check(function, "sh", t[5], {n, t[5].size(1), 3}, device);
    in.sh = t[5];
  } else {
    if (n) check(function, "colors", t[4], {n, 3}, device);
    in.colors = t[4];
  }
  TORCH_CHECK_VALUE(t[6].dim() == 2, function, ": features must have shape [N, C], got ",
                    t[6].sizes());
  check(function, "features", t[6], {n, t[6].size(1)}, device);
  return in;
}

// A view as numbers: world_to_view row by row (16), fx, fy, cx, cy, near, far, scale_modifier,
// background (3); and width, height, sh_degree, center_depth, aabb_anchor, kind of splat (0 surfels,
// 1 ellipsoids).
inline void check_sides(const char* function, int64_t width, int64_t height) {
  TORCH_CHECK_VALUE(width > 0 && height > 0 && width <= LONGEST_SIDE && height <= LONGEST_SIDE,
                    function, ": width and height must be 1 .. ", LONGEST_SIDE, ", got ", width,
                    " x ", height);
}

struct View {
  Primitive primitive;
  Camera camera;
  float background[3];
  int sh_degree;
};

inline View take_view(const char* function, at::ArrayRef<double> v, at::IntArrayRef options) {
  TORCH_CHECK_VALUE(v.size() == 26 && options.size() == 6, function,
                    ": expected 26 camera numbers and 6 options, got ", v.size(), " and ",
                    options.size());
  check_sides(function, options[0], options[1]);
  View r = {};
  Camera& c = r.camera;
  for (int i = 0; i < 3; ++i) {
    double center = 0;
    for (int j = 0; j < 3; ++j) {
      c.rotation[3 * i + j] = v[4 * i + j];
      center -= v[4 * j + i] * v[4 * j + 3];
    }
    c.translation[i] = v[4 * i + 3];
    c.center[i] = center;
    r.background[i] = static_cast<float>(v[23 + i]);
  }
  c.fx = v[16], c.fy = v[17], c.cx = v[18], c.cy = v[19];
  c.near = static_cast<float>(v[20]), c.far = static_cast<float>(v[21]);
  c.scale_modifier = v[22];
  c.width = static_cast<int>(options[0]), c.height = static_cast<int>(options[1]);
  r.sh_degree = static_cast<int>(options[2]);
  TORCH_CHECK_VALUE(options[5] == 0 || options[5] == 1, function,
                    ": the kind of splat must be 0 or 1, got ", options[5]);
  r.primitive = options[5] ? Primitive::ELLIPSOID : Primitive::SURFEL;
  c.center_depth = options[3] != 0, c.aabb_anchor = options[4] != 0;
  return r;
}

template <class T>
T* data(const Tensor& t) {
  return t.defined() ? static_cast<T*>(t.data_ptr()) : nullptr;
}

// An uninitialised tensor; large ones on the CPU come from the pool.
inline Tensor uninitialised(at::IntArrayRef shape, at::ScalarType type, at::Device device) {
  const auto options = at::TensorOptions(type).device(device);
  int64_t bytes = static_cast<int64_t>(c10::elementSize(type));
  for (int64_t size : shape) bytes *= size;
  if (!device.is_cpu() || bytes < static_cast<int64_t>(POOLED_FROM))
    return at::empty(shape, options);
  return at::from_blob(take_block(bytes), shape, give_block, options);
}

inline Tensor floats(at::IntArrayRef shape, at::Device device = at::kCPU) {
  return uninitialised(shape, at::kFloat, device);
}
inline Tensor ints(at::IntArrayRef shape, at::Device device = at::kCPU) {
  return uninitialised(shape, at::kInt, device);
}

inline ProjectParams project_params(const Inputs& in, const View& view,
                                    const std::vector<Tensor>& state, const Tensor& boxes,
                                    const Tensor& radii) {
  return {view.primitive,
          view.camera,
          in.count(),
          data<float>(in.means),
          data<float>(in.scales),
          data<float>(in.rotations),
          data<float>(in.opacities),
          data<float>(in.colors),
          data<float>(in.sh),
          in.sh.defined() ? static_cast<int>(in.sh.size(1)) : 0,
          view.sh_degree,
          data<SplatRecord>(state[RECORDS]),
          data<Footprint>(state[FOOTPRINTS]),
          data<TileBox>(boxes),
          data<int32_t>(radii),
          data<SplatShade>(state[SHADES])};
}

inline BlendParams blend_params(const Inputs& in, const View& view,
                                const std::vector<Tensor>& state) {
  const TileGrid grid = tile_grid(view.camera);
  BlendParams p = {};
  p.primitive = view.primitive;
  p.camera = view.camera;
  p.lists = {grid.x,
             grid.y,
             data<int32_t>(state[START]),
             data<int32_t>(state[SPLAT]),
             data<int32_t>(state[ROW]),
             data<uint32_t>(state[MASK]),
             data<int32_t>(state[USED])};
  p.records = data<SplatRecord>(state[RECORDS]);
  p.footprints = data<Footprint>(state[FOOTPRINTS]);
  p.shades = data<SplatShade>(state[SHADES]);
  p.features = data<float>(in.features);
  p.feature_count = in.channels();
  for (int i = 0; i < 3; ++i) p.background[i] = view.background[i];
  return p;
}

// The images that `rasterize` returns as the kernel's outputs.
inline void point_at_images(const std::vector<Tensor>& out, BlendParams& p) {
  p.color = data<float>(out[COLOR]);
  p.feature = data<float>(out[FEATURES]);
  p.alpha = data<float>(out[ALPHA]);
  p.depth = data<float>(out[DEPTH]);
  p.median_depth = data<float>(out[MEDIAN]);
  p.normal = data<float>(out[NORMAL]);
  p.distortion = data<float>(out[DISTORTION]);
}

}  // namespace torch_binding
}  // namespace iqgs
