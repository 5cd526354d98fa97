// SPDX-License-Identifier: Apache-2.0
// L1 and SSIM of an image and its target, and the gradient of the image. Each row of pixels is
// computed by the same operations whoever does it, and the rows' sums are added in order: same bits
// for any number of threads.
#pragma once

#include "../image_math.h"

namespace iqgs {

// Sums over pixels, and the slope where it is wanted.
ImageSums image_sums(const ImageLossParams& p, int threads);

// Gradient of the image from the two scales.
void image_grads(const ImageGradParams& p, const ImageScales& scales, int threads);

}  // namespace iqgs
