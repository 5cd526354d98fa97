// SPDX-License-Identifier: Apache-2.0
// All kernels of one instruction set. The including file defines IQGS_ISA. Only headers without
// functions that another set could share are allowed here: no containers, no streams.
#include "kernels.h"
#include "lanes_math.h"
//
#include "blend_backward.h"
#include "blend_forward.h"
#include "project_backward.h"
#include "project_forward.h"
#include "quad_products.h"
#include "row_products.h"
#include "weigh_pixels.h"
#include "weigh_quads.h"

namespace iqgs {
namespace IQGS_ISA {

#define IQGS_STRING(x) #x
#define IQGS_NAME(x) IQGS_STRING(x)

const KernelTable TABLE = {
    IQGS_NAME(IQGS_ISA), project,      project_backward, blend_forward,
    blend_backward,      weigh_pixels, gather_rows,      scatter_rows,
    weigh_quads,         gather_quads, scatter_quads,
};

}  // namespace IQGS_ISA
}  // namespace iqgs
