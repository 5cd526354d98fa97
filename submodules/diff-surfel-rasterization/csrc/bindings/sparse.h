// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../common/sparse.h"
#include "inputs.h"

namespace iqgs {
namespace torch_binding {

inline SparseParams sparse_params(const char* name, const Tensor& row_start, const Tensor& splat,
                                  const Tensor& weight, const Tensor& rows, bool all_rows,
                                  int64_t splat_count, int64_t channels) {
  const at::Device device = row_start.device();
  check(name, "row_start", row_start, {row_start.numel()}, device, at::kLong);
  check(name, "splat", splat, {splat.numel()}, device, at::kInt);
  check(name, "weight", weight, {splat.numel()}, device);
  check(name, "rows", rows, {rows.numel()}, device, at::kLong);
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

}  // namespace torch_binding
}  // namespace iqgs
