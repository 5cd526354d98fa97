// SPDX-License-Identifier: Apache-2.0
// Focal and dice loss of M queries at P pixels, and their gradients; see losses/mask_math.h. Queued
// on `stream`; memory belongs to the caller.
#pragma once

#include <cstddef>

#include "../mask_math.h"

namespace iqgs {
namespace cuda {

// Bytes of working memory of both functions.
size_t mask_loss_bytes(const MaskLossParams& p);

// focal [M], dice [M] and what the backward pass needs, overlap [M].
void mask_losses(const MaskLossParams& p, float* focal, float* dice, MaskOverlap* overlap,
                 void* memory, void* stream);

// Gradients of queries [M, D] and features [P, D], null where not wanted.
void mask_loss_grads(const MaskLossParams& p, const MaskOverlap* overlap, const float* grad_focal,
                     const float* grad_dice, float* grad_queries, float* grad_features,
                     void* memory, void* stream);

}  // namespace cuda
}  // namespace iqgs
