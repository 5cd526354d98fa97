// SPDX-License-Identifier: Apache-2.0
// What a training step does to all splats, on a GPU. Queued on `stream`.
#pragma once

#include "../row_params.h"
#include "../splat_params.h"

namespace iqgs {
namespace cuda {

void activate_splats(const ActivateParams& p, void* stream);
void activate_splats_backward(const ActivateGradParams& p, void* stream);
void add_signals(const SignalParams& p, void* stream);
void look_at_rows(const LookParams& p, void* stream);
void step_rows(const StepParams& p, void* stream);

}  // namespace cuda
}  // namespace iqgs
