// SPDX-License-Identifier: Apache-2.0
// The kernels of one instruction set for what a training step does to all splats.
#pragma once

#include "../../cpu/kernels.h"
#include "../row_params.h"
#include "../splat_params.h"

namespace iqgs {

// Each takes splats first .. last; first is a multiple of SPLATS_AT_ONCE.
struct SplatKernels {
  void (*activate)(const ActivateParams&, int64_t first, int64_t last);
  void (*activate_grads)(const ActivateGradParams&, int64_t first, int64_t last);
  void (*add_signal)(const SignalParams&, int64_t first, int64_t last);
  // Chosen rows first .. last.
  void (*look_at)(const LookParams&, int64_t first, int64_t last);
  void (*step)(const StepParams&, int64_t first, int64_t last);
};

// Few enough that a piece stays in the first-level cache, enough that calling costs nothing.
constexpr int64_t SPLATS_AT_ONCE = 512;

namespace baseline {
extern const SplatKernels SPLATS;
}
namespace avx2 {
extern const SplatKernels SPLATS;
}
namespace avx512 {
extern const SplatKernels SPLATS;
}

// Those of the instruction set in use.
const SplatKernels& splat_kernels();

}  // namespace iqgs
