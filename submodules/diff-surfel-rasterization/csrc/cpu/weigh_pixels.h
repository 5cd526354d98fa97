// SPDX-License-Identifier: Apache-2.0
// The blending weights themselves, pixel by pixel: a counting pass, then a filling pass.
#pragma once

#include "blend_forward.h"

namespace iqgs {
namespace IQGS_ISA {

// Appends (or counts) the weights of one block; `filled` counts per pixel of the tile.
IQGS_INLINE void emit_block(const WeightParams& p, int64_t first, const BlockPixels& pixels,
                            const BlockWeights& w, int32_t* filled) {
  const int width = p.blend.camera.width;
  for (int i = 0; i < w.count; ++i) {
    const float* weight = w.weight + LANES * i;
    for (int lane = 0; lane < LANES; ++lane) {
      if (!(weight[lane] > 0.0f && weight[lane] >= p.min_weight)) continue;
      int32_t k = filled[lane]++;
      if (!p.row_start) continue;
      int64_t pixel =
          static_cast<int64_t>(pixels.y + lane / BLOCK) * width + pixels.x + lane % BLOCK;
      p.splat[p.row_start[pixel] + k] = p.blend.lists.splat[first + w.id[i]];
      p.weight[p.row_start[pixel] + k] = weight[lane];
    }
  }
}

void weigh_pixels(const WeightParams& p, int tile, Arena& arena) {
  const BlendParams& blend = p.blend;
  const int64_t first = blend.lists.start[tile], last = blend.lists.start[tile + 1];
  const TileOrigin origin = tile_origin(blend.lists, tile);
  const PixelOptions options = tile_options(blend, first, last);
  ForwardSpace space = forward_space(blend, arena);
  TileBatch& b = space.batch;
  for (int k = 0; k < BLOCKS_PER_TILE; ++k) {
    BlockPixels pixels = block_pixels(blend, tile, k);
    PixelState state = fresh_pixels(pixels.inside);
    int32_t filled[LANES] = {};
    for (int64_t at = first; at < last && any(state.alive); at += FORWARD_BATCH) {
      int count = last - at < FORWARD_BATCH ? static_cast<int>(last - at) : FORWARD_BATCH;
      load_splats(blend, at, count, false, true, origin, b);
      load_shapes(blend, at, count, b);
      for (int i = 0; i < count; i += LANES) mask_sixteen(b, i, origin);
      list_blocks(b, count, 1u << k);
      space.block.count = 0;
      weigh_block<NoTerms>(b, b.lists + k * b.list_stride, b.count[k], pixels, options, state,
                           space.block);
      emit_block(p, at, pixels, space.block, filled);
    }
    if (p.row_start) continue;
    const int width = blend.camera.width, height = blend.camera.height;
    for (int lane = 0; lane < LANES; ++lane) {
      int x = pixels.x + lane % BLOCK, y = pixels.y + lane / BLOCK;
      if (x < width && y < height) p.count[static_cast<int64_t>(y) * width + x] = filled[lane];
    }
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
