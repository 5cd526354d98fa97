// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ops/max.h>

#include "inputs.h"

namespace iqgs {
namespace torch_binding {

constexpr int64_t MOST_LABEL_MAPS = 16;  // that one call sums by

// Label maps [L, H, W] int32 and the sums [N, C] int64 that they name columns of.
inline void check_label_sums(const char* function, const Inputs& in, const View& view,
                             const Tensor& labels, const Tensor& sums) {
  const int64_t maps = labels.dim() == 3 ? labels.size(0) : 0;
  TORCH_CHECK_VALUE(maps >= 1 && maps <= MOST_LABEL_MAPS, function, ": labels must have 1 to ",
                    MOST_LABEL_MAPS, " maps [L, H, W], got ", labels.sizes());
  check(function, "labels", labels, {maps, view.camera.height, view.camera.width}, in.device(),
        at::kInt);
  TORCH_CHECK_VALUE(sums.dim() == 2 && sums.is_contiguous(), function,
                    ": sums must be contiguous and have shape [N, C], got ", sums.sizes());
  check(function, "sums", sums, {in.count(), sums.size(1)}, in.device(), at::kLong);
  const int64_t largest = labels.max().item<int64_t>();  // a write past a row would be silent
  TORCH_CHECK_VALUE(largest < sums.size(1), function, ": labels must be below ", sums.size(1),
                    ", the columns of the sums, got ", largest);
}

}  // namespace torch_binding
}  // namespace iqgs
