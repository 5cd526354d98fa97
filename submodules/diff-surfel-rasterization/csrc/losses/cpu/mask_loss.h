// SPDX-License-Identifier: Apache-2.0
// Focal and dice loss of queries against pixels whose owners are known; no logit is stored.
// Pixels are taken in chunks whose number depends on nothing but theirs, and the chunks' sums are
// added in order: same bits for any number of threads.
#pragma once

#include "../mask_math.h"

namespace iqgs {

// Losses [M] each, and what the backward pass needs, [M].
void mask_losses(const MaskLossParams& p, float* focal, float* dice, MaskOverlap* overlap,
                 int threads);

// Gradients of the queries [M, D] and features [P, D] from those of the losses [M]; null where not
// wanted.
void mask_loss_grads(const MaskLossParams& p, const MaskOverlap* overlap, const float* grad_focal,
                     const float* grad_dice, float* grad_queries, float* grad_features,
                     int threads);

}  // namespace iqgs
