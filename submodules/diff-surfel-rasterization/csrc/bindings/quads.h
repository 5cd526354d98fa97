// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../common/quads.h"
#include "inputs.h"

namespace iqgs {
namespace torch_binding {

// The weights of a view by quads as the operators take them: start, row, weight, extra; and width,
// height, number of splats.
inline QuadTable take_quads(const char* function, at::TensorList tensors, at::IntArrayRef sizes) {
  TORCH_CHECK_VALUE(tensors.size() == 4 && sizes.size() == 3, function,
                    ": expected 4 tensors of weights and 3 sizes, got ", tensors.size(), " and ",
                    sizes.size());
  check_sides(function, sizes[0], sizes[1]);
  QuadTable t = {};
  t.grid = {static_cast<int>(sizes[0]), static_cast<int>(sizes[1])};
  t.splat_count = sizes[2];
  t.extra_count = tensors[3].numel();
  const at::Device device = tensors[0].device();
  const int64_t entries = tensors[1].numel();
  check(function, "quad_start", tensors[0], {quad_count(t.grid) + 1}, device, at::kLong);
  check(function, "row", tensors[1], {entries}, device, at::kInt);
  check(function, "weight", tensors[2], {entries, QUAD_PIXELS}, device, at::kHalf);
  check(function, "extra", tensors[3], {t.extra_count}, device, at::kInt);
  for (const Tensor& x : tensors)
    TORCH_CHECK_VALUE(x.is_contiguous(), function, ": the weights must be contiguous");
  t.start = data<int64_t>(tensors[0]);
  t.row = data<int32_t>(tensors[1]);
  t.weight = data<uint16_t>(tensors[2]);
  t.extra = t.extra_count ? data<int32_t>(tensors[3]) : t.row;  // readable, whoever looks ahead
  return t;
}

inline int64_t pixels_of(const QuadTable& t) {
  return int64_t(t.grid.width) * t.grid.height;
}

inline void check_rows(const char* function, const char* name, const Tensor& x, int64_t rows,
                       at::Device device) {
  TORCH_CHECK_VALUE(x.dim() == 2 && x.size(1) >= 4, function, ": ", name,
                    " must have at least 4 columns, got ", x.sizes());
  check(function, name, x, {rows, x.size(1)}, device);
}

}  // namespace torch_binding
}  // namespace iqgs
