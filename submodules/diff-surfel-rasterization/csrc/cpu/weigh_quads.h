// SPDX-License-Identifier: Apache-2.0
// The blending weights of a tile by quads: a counting pass, then a filling pass.
#pragma once

#include "blend_forward.h"
#include "halves.h"

namespace iqgs {
namespace IQGS_ISA {

constexpr int QUADS_PER_PATCH = PATCH / QUAD_PIXELS;
constexpr int QUADS_ACROSS = PATCH_WIDTH / QUAD;
static_assert(PATCH_HEIGHT % QUAD == 0, "a patch is whole quads");

// What is known of the quads of one patch.
struct PatchQuads {
  int64_t index[QUADS_PER_PATCH];   // among all quads, -1 outside the image
  int32_t filled[QUADS_PER_PATCH];  // entries so far
};

// Lanes of a patch run row by row: the first of quad q.
IQGS_INLINE constexpr int first_lane(int q) {
  return q / QUADS_ACROSS * QUAD * PATCH_WIDTH + q % QUADS_ACROSS * QUAD;
}

// All lanes of quad q.
IQGS_INLINE constexpr uint32_t lanes_of(int q) {
  return (3u | 3u << PATCH_WIDTH) << first_lane(q);
}

IQGS_INLINE void start_quads(const QuadWeightParams& p, const PatchPixels& pixels, PatchQuads& b) {
  const QuadGrid grid = {p.blend.camera.width, p.blend.camera.height};
  for (int q = 0; q < QUADS_PER_PATCH; ++q) {
    const QuadPlace place = {pixels.x / QUAD + q % QUADS_ACROSS,
                             pixels.y / QUAD + q / QUADS_ACROSS};
    const bool there = place.x < quads_x(grid) && place.y < quads_y(grid);
    b.index[q] = there ? quad_index(grid, place) : -1;
    b.filled[q] = 0;
  }
}

// Appends (or counts) the weights of one patch.
IQGS_INLINE void emit_quads(const QuadWeightParams& p, int64_t first, const PatchWeights& w,
                            PatchQuads& b) {
  const FP zero(0.0f), least(p.min_weight);
  alignas(64) float kept_weight[LANES] = {};
  for (int i = 0; i < w.count; ++i) {
    const FP value = FP::load(w.weight + PATCH * i);
    const MaskP kept = (value > zero) & (value >= least);
    const uint32_t bits = lane_bits(kept);
    if (!p.start) {
      for (int q = 0; q < QUADS_PER_PATCH; ++q) b.filled[q] += (bits & lanes_of(q)) != 0;
      continue;
    }
    uint16_t halves[LANES];
    zero_unless(kept, value).store(kept_weight);
    store_halves(F16::load(kept_weight), halves);
    for (int q = 0; q < QUADS_PER_PATCH; ++q) {
      if (!(bits & lanes_of(q))) continue;
      const int64_t at = p.start[b.index[q]] + b.filled[q]++;
      p.row[at] = p.blend.lists.splat[first + w.id[i]];
      for (int j = 0; j < QUAD; ++j)
        __builtin_memcpy(p.weight + QUAD_PIXELS * at + QUAD * j,
                         halves + first_lane(q) + PATCH_WIDTH * j, QUAD * sizeof(uint16_t));
    }
  }
}

template <class Pixels>
void weigh_quads(const QuadWeightParams& p, int tile, Arena& arena) {
  const BlendParams& blend = p.blend;
  const int64_t first = blend.lists.start[tile], last = blend.lists.start[tile + 1];
  const PixelOptions options = tile_options(blend, first, last);
  ForwardSpace space = forward_space(blend, arena);
  TileBatch& b = space.batch;
  PatchQuads quads[PATCHES];
  for (int k = 0; k < PATCHES; ++k) start_quads(p, patch_pixels(blend, tile, k), quads[k]);
  uint32_t open = start_patches(blend, tile, space);
  for (int64_t at = first; at < last && open;) {
    const int count = load_batch(blend, tile, at, last, false, open, b);
    for (int k = 0; k < PATCHES; ++k) {
      if (b.count[k] == 0) continue;
      space.patch.count = 0;
      weigh_patch<Pixels, WantsNothing>(b, b.lists + k * b.list_stride, b.count[k],
                                patch_pixels(blend, tile, k), options, space.state[k], space.patch);
      emit_quads(p, at, space.patch, quads[k]);
      if (!any(space.state[k].alive)) open &= ~(1u << k);
    }
    at += count;
  }
  if (p.start) return;
  for (const PatchQuads& patch : quads)
    for (int q = 0; q < QUADS_PER_PATCH; ++q)
      if (patch.index[q] >= 0) p.count[patch.index[q]] = patch.filled[q];
}

}  // namespace IQGS_ISA
}  // namespace iqgs
