// SPDX-License-Identifier: Apache-2.0
// Products of the blending weights of a view (a sparse matrix, one row per pixel) with values of
// the splats, and the transposed products.
#pragma once

#include <cstdint>

namespace iqgs {

struct SparseParams {
  const int64_t* row_start;  // [rows of the matrix + 1]
  const int32_t* splat;      // [nnz]
  const float* weight;       // [nnz]
  const int64_t* rows;       // [P] rows to use, or null for all
  int64_t row_count;         // P
  int64_t splat_count;       // N
  int channels;              // C
};

// out [P, C] = sum over the row's splats of weight * values [N, C].
void gather_values(const SparseParams& p, const float* values, float* out, int threads);

// grad_values [N, C] = transposed product with grad_out [P, C], summed in the order of the rows.
void scatter_grads(const SparseParams& p, const float* grad_out, float* grad_values, int threads);

}  // namespace iqgs
