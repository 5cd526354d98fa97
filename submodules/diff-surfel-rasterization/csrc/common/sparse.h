// SPDX-License-Identifier: Apache-2.0
// The blending weights of a view as a sparse matrix, one row per pixel.
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

}  // namespace iqgs
