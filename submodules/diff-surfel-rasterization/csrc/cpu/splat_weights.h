// SPDX-License-Identifier: Apache-2.0
// Products of the blending weights of a view (a sparse matrix, one row per pixel) with values of
// the splats, and the transposed products.
#pragma once

#include "../common/sparse.h"

namespace iqgs {

// out [P, C] = sum over the row's splats of weight * values [N, C].
void gather_values(const SparseParams& p, const float* values, float* out, int threads);

// grad_values [N, C] = transposed product with grad_out [P, C], summed in the order of the rows.
void scatter_grads(const SparseParams& p, const float* grad_out, float* grad_values, int threads);

}  // namespace iqgs
