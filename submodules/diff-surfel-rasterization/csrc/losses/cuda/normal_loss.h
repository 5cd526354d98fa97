// SPDX-License-Identifier: Apache-2.0
// Normal consistency with its slopes; see ../normal_math.h. Queued on `stream`; memory belongs to
// the caller.
#pragma once

#include <cstddef>

#include "../normal_math.h"

namespace iqgs {
namespace cuda {

// Bytes of working memory of `compare_normals`.
size_t normal_loss_bytes(const NormalLossParams& p);

// loss [1], and the slopes where they are wanted.
void compare_normals(const NormalLossParams& p, float* loss, float* memory, void* stream);

}  // namespace cuda
}  // namespace iqgs
