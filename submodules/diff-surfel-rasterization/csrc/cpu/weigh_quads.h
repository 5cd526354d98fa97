// SPDX-License-Identifier: Apache-2.0
// The blending weights of a tile by quads: a counting pass, then a filling pass.
#pragma once

#include "blend_forward.h"
#include "halves.h"

namespace iqgs {
namespace IQGS_ISA {

constexpr int QUADS_PER_BLOCK = BLOCK_PIXELS / QUAD_PIXELS;

// What is known of the quads of one block.
struct BlockQuads {
  int64_t index[QUADS_PER_BLOCK];   // among all quads, -1 outside the image
  int32_t filled[QUADS_PER_BLOCK];  // entries so far
};

IQGS_INLINE void start_quads(const QuadWeightParams& p, const BlockPixels& pixels, BlockQuads& b) {
  const QuadGrid grid = {p.blend.camera.width, p.blend.camera.height};
  for (int q = 0; q < QUADS_PER_BLOCK; ++q) {
    const QuadPlace place = {pixels.x / QUAD + q % QUAD, pixels.y / QUAD + q / QUAD};
    const bool there = place.x < quads_x(grid) && place.y < quads_y(grid);
    b.index[q] = there ? quad_index(grid, place) : -1;
    b.filled[q] = 0;
  }
}

// Appends (or counts) the weights of one block.
IQGS_INLINE void emit_quads(const QuadWeightParams& p, int64_t first, const BlockWeights& w,
                            BlockQuads& b) {
  // Lanes of a block run row by row: those of each quad, and the first of them.
  constexpr uint32_t LANES_OF[QUADS_PER_BLOCK] = {0x0033, 0x00cc, 0x3300, 0xcc00};
  constexpr int FIRST_LANE[QUADS_PER_BLOCK] = {0, 2, 8, 10};
  const F16 zero(0.0f), least(p.min_weight);
  for (int i = 0; i < w.count; ++i) {
    const F16 value = F16::load(w.weight + LANES * i);
    const Mask kept = (value > zero) & (value >= least);
    const uint32_t bits = lane_bits(kept);
    if (!p.start) {
      for (int q = 0; q < QUADS_PER_BLOCK; ++q) b.filled[q] += (bits & LANES_OF[q]) != 0;
      continue;
    }
    uint16_t halves[LANES];
    store_halves(zero_unless(kept, value), halves);
    for (int q = 0; q < QUADS_PER_BLOCK; ++q) {
      if (!(bits & LANES_OF[q])) continue;
      const int64_t at = p.start[b.index[q]] + b.filled[q]++;
      p.row[at] = p.blend.lists.splat[first + w.id[i]];
      for (int j = 0; j < QUAD; ++j)
        __builtin_memcpy(p.weight + QUAD_PIXELS * at + QUAD * j, halves + FIRST_LANE[q] + BLOCK * j,
                         QUAD * sizeof(uint16_t));
    }
  }
}

void weigh_quads(const QuadWeightParams& p, int tile, Arena& arena) {
  const BlendParams& blend = p.blend;
  const int64_t first = blend.lists.start[tile], last = blend.lists.start[tile + 1];
  const PixelOptions options = tile_options(blend, first, last);
  ForwardSpace space = forward_space(blend, arena);
  TileBatch& b = space.batch;
  BlockQuads quads[BLOCKS_PER_TILE];
  for (int k = 0; k < BLOCKS_PER_TILE; ++k) start_quads(p, block_pixels(blend, tile, k), quads[k]);
  uint32_t open = start_blocks(blend, tile, space);
  for (int64_t at = first; at < last && open;) {
    const int count = load_batch(blend, tile, at, last, false, open, b);
    for (int k = 0; k < BLOCKS_PER_TILE; ++k) {
      if (b.count[k] == 0) continue;
      space.block.count = 0;
      weigh_block<NoTerms>(b, b.lists + k * b.list_stride, b.count[k], block_pixels(blend, tile, k),
                           options, space.state[k], space.block);
      emit_quads(p, at, space.block, quads[k]);
      if (!any(space.state[k].alive)) open &= ~(1u << k);
    }
    at += count;
  }
  if (p.start) return;
  for (const BlockQuads& block : quads)
    for (int q = 0; q < QUADS_PER_BLOCK; ++q)
      if (block.index[q] >= 0) p.count[block.index[q]] = block.filled[q];
}

}  // namespace IQGS_ISA
}  // namespace iqgs
