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
#include "weigh_labels.h"
#include "weigh_pixels.h"
#include "weigh_quads.h"

namespace iqgs {
namespace IQGS_ISA {

#define IQGS_STRING(x) #x
#define IQGS_NAME(x) IQGS_STRING(x)

template <class Projection>
constexpr PrimitiveKernels kernels_of() {
  using Pixels = typename Projection::Pixels;
  return {project<Projection>,    project_backward<Projection>, blend_forward<Pixels>,
          blend_backward<Pixels>, weigh_pixels<Pixels>,         weigh_quads<Pixels>,
          weigh_labels<Pixels>};
}

const KernelTable TABLE = {
    IQGS_NAME(IQGS_ISA),
    kernels_of<SurfelProjection>(),
    kernels_of<EllipsoidProjection>(),
    gather_rows,
    scatter_rows,
    gather_quads,
    scatter_quads,
};

}  // namespace IQGS_ISA
}  // namespace iqgs
