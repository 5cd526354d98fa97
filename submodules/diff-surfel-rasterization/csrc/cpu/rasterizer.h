// SPDX-License-Identifier: Apache-2.0
// The phases of the CPU backend. Memory belongs to the caller.
#pragma once

#include "binning.h"
#include "kernels.h"

namespace iqgs {

void project_splats(const ProjectParams& p, int threads);
void blend_tiles(const BlendParams& p, int threads);
void blend_tiles_backward(const BlendGradParams& p, int threads);
void project_splats_backward(const ProjectGradParams& p, int threads);
// Counts per pixel or quad where the start is null, else fills.
void weigh_tiles(const WeightParams& p, int threads);
void weigh_tiles(const QuadWeightParams& p, int threads);
// Adds to the sums; the same bits for any number of threads.
void weigh_tiles(const LabelWeightParams& p, int threads);

}  // namespace iqgs
