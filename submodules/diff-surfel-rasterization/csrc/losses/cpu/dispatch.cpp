// SPDX-License-Identifier: Apache-2.0
#include "kernels.h"

namespace iqgs {

const LossKernels& loss_kernels() {
#if defined(IQGS_X86_KERNELS)
  if (instruction_set() == InstructionSet::AVX512) return avx512::LOSSES;
  if (instruction_set() == InstructionSet::AVX2) return avx2::LOSSES;
#endif
  return baseline::LOSSES;
}

}  // namespace iqgs
