// SPDX-License-Identifier: Apache-2.0
// What a training step does to all splats, on the CPU. A splat's numbers depend on nothing but it.
#pragma once

#include "../row_params.h"
#include "../splat_params.h"

namespace iqgs {

void activate_splats(const ActivateParams& p, int threads);
void activate_splats_backward(const ActivateGradParams& p, int threads);
void add_signals(const SignalParams& p, int threads);
void look_at_rows(const LookParams& p, int threads);
void step_rows(const StepParams& p, int threads);

}  // namespace iqgs
