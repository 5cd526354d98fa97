// SPDX-License-Identifier: Apache-2.0
// One tile of the images: weights of a 4x4 block in one vector, then a small matrix product of
// weights and channels with the accumulators in registers.
#pragma once

#include "channel_products.h"

namespace iqgs {
namespace IQGS_ISA {

// Splats copied at a time: records, rows and lists of a batch stay in the first-level cache.
constexpr int FORWARD_BATCH = 192;

struct ForwardSpace {
  TileBatch batch;
  PixelState* state;   // [BLOCKS_PER_TILE]
  float* sums;         // [BLOCKS_PER_TILE, channels, LANES]
  BlockWeights block;  // of the block at hand
};

IQGS_INLINE ForwardSpace forward_space(const BlendParams& p, Arena& arena) {
  const int channels = SHADE_CHANNELS + p.feature_count;
  const size_t sums = static_cast<size_t>(BLOCKS_PER_TILE) * channels * LANES;
  const size_t bytes = batch_bytes(FORWARD_BATCH, channels) + 4 * sums +
                       sizeof(PixelState) * BLOCKS_PER_TILE + 68 * FORWARD_BATCH + 512;
  Carver carver = {static_cast<char*>(arena.reserve(bytes))};
  ForwardSpace s;
  s.batch = carve_batch(carver, FORWARD_BATCH, channels);
  s.state = carver.take<PixelState>(BLOCKS_PER_TILE);
  s.sums = carver.take<float>(sums);
  s.block = {carver.take<float>(LANES * FORWARD_BATCH), nullptr,
             carver.take<int32_t>(FORWARD_BATCH), 0};
  return s;
}

IQGS_PHASE void write_block(const BlendParams& p, const BlockPixels& pixels, const PixelState& s,
                            const float* sums) {
  const int64_t plane = static_cast<int64_t>(p.camera.width) * p.camera.height;
  for (int c = 0; c < 3; ++c) {
    store_block(p, pixels, F16::load(sums + LANES * c), p.normal + c * plane);
    F16 value = fused(s.transmittance, F16(p.background[c]), F16::load(sums + LANES * (3 + c)));
    store_block(p, pixels, value, p.color + c * plane);
  }
  for (int c = 0; c < p.feature_count; ++c)
    store_block(p, pixels, F16::load(sums + LANES * (SHADE_CHANNELS + c)), p.feature + c * plane);
  store_block(p, pixels, F16(1.0f) - s.transmittance, p.alpha);
  store_block(p, pixels, s.depth, p.depth);
  store_block(p, pixels, s.median_depth, p.median_depth);
  store_block(p, pixels, s.sums.total(), p.distortion);
}

// Starts every block of a tile; one bit for each that lies in the image.
IQGS_INLINE uint32_t start_blocks(const BlendParams& p, int tile, ForwardSpace& space) {
  uint32_t open = 0;
  for (int k = 0; k < BLOCKS_PER_TILE; ++k) {
    space.state[k] = fresh_pixels(block_pixels(p, tile, k).inside);
    if (any(space.state[k].alive)) open |= 1u << k;
  }
  return open;
}

// Loads the next batch of a tile's pairs [at, last) and lists it for the open blocks; its length.
IQGS_INLINE int load_batch(const BlendParams& p, int tile, int64_t at, int64_t last, bool rows,
                           uint32_t open, TileBatch& b) {
  const int count = last - at < FORWARD_BATCH ? static_cast<int>(last - at) : FORWARD_BATCH;
  const TileOrigin origin = tile_origin(p.lists, tile);
  load_splats(p, at, count, rows, true, origin, b);
  load_shapes(p, at, count, b);
  for (int i = 0; i < count; i += LANES) mask_sixteen(b, i, origin);
  list_blocks(b, count, open);
  return count;
}

void blend_forward(const BlendParams& p, int tile, Arena& arena) {
  const int channels = SHADE_CHANNELS + p.feature_count;
  const int64_t first = p.lists.start[tile], last = p.lists.start[tile + 1];
  const PixelOptions options = tile_options(p, first, last);
  ForwardSpace space = forward_space(p, arena);
  TileBatch& b = space.batch;
  const uint32_t in_image = start_blocks(p, tile, space);
  __builtin_memset(space.sums, 0, sizeof(float) * BLOCKS_PER_TILE * channels * LANES);

  // Batch by batch until the list ends or every pixel is saturated.
  uint32_t open = in_image;
  int64_t at = first;
  while (at < last && open) {
    const int count = load_batch(p, tile, at, last, true, open, b);
    __builtin_memcpy(p.lists.mask + at, b.masks, sizeof(uint16_t) * count);
    for (int k = 0; k < BLOCKS_PER_TILE; ++k) {
      if (b.count[k] == 0) continue;
      space.block.count = 0;
      weigh_block<ImageTerms>(b, b.lists + k * b.list_stride, b.count[k], block_pixels(p, tile, k),
                              options, space.state[k], space.block);
      accumulate_channels(channels, space.sums + k * channels * LANES, b.rows, b.row_stride,
                          space.block);
      if (!any(space.state[k].alive)) open &= ~(1u << k);
    }
    at += count;
  }
  p.lists.used[tile] = static_cast<int32_t>(at - first);

  for (int k = 0; k < BLOCKS_PER_TILE; ++k)
    if ((in_image >> k) & 1u)
      write_block(p, block_pixels(p, tile, k), space.state[k], space.sums + k * channels * LANES);
}

}  // namespace IQGS_ISA
}  // namespace iqgs
