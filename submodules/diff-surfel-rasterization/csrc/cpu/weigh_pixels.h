// SPDX-License-Identifier: Apache-2.0
// The blending weights themselves, pixel by pixel: a counting pass, then a filling pass.
#pragma once

#include "blend_forward.h"

namespace iqgs {
namespace IQGS_ISA {

// Appends (or counts) the weights of one patch; `filled` counts per pixel of the patch.
IQGS_INLINE void emit_patch(const WeightParams& p, int64_t first, const PatchPixels& pixels,
                            const PatchWeights& w, int32_t* filled) {
  const FP zero(0.0f), least(p.min_weight);
  for (int i = 0; i < w.count; ++i) {
    const float* weight = w.weight + PATCH * i;
    const FP value = FP::load(weight);
    uint32_t kept = lane_bits((value > zero) & (value >= least));
    for (; kept; kept &= kept - 1) {
      const int lane = __builtin_ctz(kept);
      const int32_t k = filled[lane]++;
      if (!p.row_start) continue;
      const int64_t x = pixels.x + lane % PATCH_WIDTH, y = pixels.y + lane / PATCH_WIDTH;
      const int64_t at = p.row_start[y * p.blend.camera.width + x] + k;
      p.splat[at] = p.blend.lists.splat[first + w.id[i]];
      p.weight[at] = weight[lane];
    }
  }
}

IQGS_INLINE void write_counts(const WeightParams& p, const PatchPixels& pixels,
                              const int32_t* filled) {
  const int64_t width = p.blend.camera.width, height = p.blend.camera.height;
  for (int lane = 0; lane < PATCH; ++lane) {
    const int64_t x = pixels.x + lane % PATCH_WIDTH, y = pixels.y + lane / PATCH_WIDTH;
    if (x < width && y < height) p.count[y * width + x] = filled[lane];
  }
}

template <class Pixels>
void weigh_pixels(const WeightParams& p, int tile, Arena& arena) {
  const BlendParams& blend = p.blend;
  const int64_t first = blend.lists.start[tile], last = blend.lists.start[tile + 1];
  const PixelOptions options = tile_options(blend, first, last);
  ForwardSpace space = forward_space(blend, arena);
  TileBatch& b = space.batch;
  int32_t filled[PATCHES][PATCH] = {};
  uint32_t open = start_patches(blend, tile, space);
  for (int64_t at = first; at < last && open;) {
    const int count = load_batch(blend, tile, at, last, false, open, b);
    for (int k = 0; k < PATCHES; ++k) {
      if (b.count[k] == 0) continue;
      const PatchPixels pixels = patch_pixels(blend, tile, k);
      space.patch.count = 0;
      weigh_patch<Pixels, WantsNothing>(b, b.lists + k * b.list_stride, b.count[k], pixels, options,
                                space.state[k], space.patch);
      emit_patch(p, at, pixels, space.patch, filled[k]);
      if (!any(space.state[k].alive)) open &= ~(1u << k);
    }
    at += count;
  }
  if (p.row_start) return;
  for (int k = 0; k < PATCHES; ++k) write_counts(p, patch_pixels(blend, tile, k), filled[k]);
}

}  // namespace IQGS_ISA
}  // namespace iqgs
