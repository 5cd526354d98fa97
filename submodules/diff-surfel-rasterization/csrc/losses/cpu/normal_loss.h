// SPDX-License-Identifier: Apache-2.0
// Normal consistency on the CPU. Each row of pixels is computed by the same operations whoever does
// it, and the rows' sums are added in order: same bits for any number of threads.
#pragma once

#include "../normal_math.h"

namespace iqgs {

// Sum over pixels, and the slopes where they are wanted.
double normal_sum(const NormalLossParams& p, int threads);

}  // namespace iqgs
