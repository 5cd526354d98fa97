// SPDX-License-Identifier: Apache-2.0
// All losses of one instruction set. The including file defines IQGS_ISA. Only headers without
// functions that another set could share are allowed here: no containers, no streams.
#include "kernels.h"
//
#include "image_rows.h"
#include "mask_backward.h"
#include "mask_forward.h"
#include "normal_rows.h"

namespace iqgs {
namespace IQGS_ISA {

const LossKernels LOSSES = {mask_sums, mask_grads, compare_images, image_grad, compare_normals};

}  // namespace IQGS_ISA
}  // namespace iqgs
