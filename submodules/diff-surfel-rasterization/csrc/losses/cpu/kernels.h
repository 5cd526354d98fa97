// SPDX-License-Identifier: Apache-2.0
// The losses' kernels of one instruction set.
#pragma once

#include "../../cpu/kernels.h"
#include "../image_math.h"
#include "../mask_math.h"
#include "../normal_math.h"

namespace iqgs {

// What one call of `compare_images` does: rows and columns of one channel.
struct ImagePart {
  int channel, first_row, last_row, first_column, last_column;
};
// Most columns of a part, a multiple of all vectors.
constexpr int IMAGE_PART_WIDTH = 512;

struct LossKernels {
  // Pixels first .. last: sums [M, MASK_SUMS], or gradients; see mask_loss.h.
  void (*mask_sums)(const MaskLossParams&, int64_t first, int64_t last, double* sums, Arena&);
  void (*mask_grads)(const MaskGradParams&, int64_t first, int64_t last, double* queries, Arena&);
  // Sums [rows of the part], and the slope where it is wanted.
  void (*compare_images)(const ImageLossParams&, const ImagePart&, ImageSums* sums, Arena&);
  // Pixels first .. last of one channel.
  void (*image_grad)(const ImageGradParams&, const ImageScales&, int channel, int64_t first,
                     int64_t last);
  // Rows first .. last: the sum of each, and the slopes where they are wanted.
  void (*compare_normals)(const NormalLossParams&, int first, int last, double* sums, Arena&);
};

namespace baseline {
extern const LossKernels LOSSES;
}
namespace avx2 {
extern const LossKernels LOSSES;
}
namespace avx512 {
extern const LossKernels LOSSES;
}

// Those of the instruction set in use.
const LossKernels& loss_kernels();

}  // namespace iqgs
