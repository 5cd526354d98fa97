// SPDX-License-Identifier: Apache-2.0
#include "splats.h"

#include <algorithm>

#include "../../cpu/parallel.h"
#include "kernels.h"

namespace iqgs {
namespace {

template <class Params>
void for_pieces(void (*kernel)(const Params&, int64_t, int64_t), const Params& p, int threads) {
  const int64_t pieces = (p.count + SPLATS_AT_ONCE - 1) / SPLATS_AT_ONCE;
  parallel_for(pieces, 1, threads, [&](int64_t piece, Arena&) {
    const int64_t first = piece * SPLATS_AT_ONCE;
    kernel(p, first, std::min(p.count, first + SPLATS_AT_ONCE));
  });
}

}  // namespace

const SplatKernels& splat_kernels() {
#if defined(IQGS_X86_KERNELS)
  if (instruction_set() == InstructionSet::AVX512) return avx512::SPLATS;
  if (instruction_set() == InstructionSet::AVX2) return avx2::SPLATS;
#endif
  return baseline::SPLATS;
}

void activate_splats(const ActivateParams& p, int threads) {
  for_pieces(splat_kernels().activate, p, threads);
}

void activate_splats_backward(const ActivateGradParams& p, int threads) {
  for_pieces(splat_kernels().activate_grads, p, threads);
}

void add_signals(const SignalParams& p, int threads) {
  for_pieces(splat_kernels().add_signal, p, threads);
}

void look_at_rows(const LookParams& p, int threads) {
  for_pieces(splat_kernels().look_at, p, threads);
}

void step_rows(const StepParams& p, int threads) {
  for_pieces(splat_kernels().step, p, threads);
}

}  // namespace iqgs
