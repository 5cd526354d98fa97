// SPDX-License-Identifier: Apache-2.0
// L1 and SSIM of an image and its target, and the gradient of the image; see ../image_math.h.
// Queued on `stream`; memory belongs to the caller.
#pragma once

#include <cstddef>

#include "../image_math.h"

namespace iqgs {
namespace cuda {

// Bytes of working memory of `compare_images`.
size_t image_loss_bytes(const ImageLossParams& p);

// losses [2]: l1 and 1 - SSIM; total [1]: sum of the weights; and the slope where it is wanted.
void compare_images(const ImageLossParams& p, float* losses, double* total, void* memory,
                    void* stream);

// Gradient of the image from those of the losses [2], on the device.
void image_grads(const ImageGradParams& p, const double* total, const float* grad_losses,
                 void* stream);

}  // namespace cuda
}  // namespace iqgs
