// SPDX-License-Identifier: Apache-2.0
// All kernels of one instruction set. The including file defines IQGS_ISA. Only headers without
// functions that another set could share are allowed here: no containers, no streams.
#include "kernels.h"
//
#include "adam_rows.h"
#include "splat_rows.h"

namespace iqgs {
namespace IQGS_ISA {

const SplatKernels SPLATS = {activate, activate_grads, add_signal, look_at, step};

}  // namespace IQGS_ISA
}  // namespace iqgs
