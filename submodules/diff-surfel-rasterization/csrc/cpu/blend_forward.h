// SPDX-License-Identifier: Apache-2.0
// One tile of the images: weights of a patch, one pixel per lane, then a small matrix product of
// weights and channels with the accumulators in registers.
#pragma once

#include "channel_products.h"
#include "tile_images.h"

namespace iqgs {
namespace IQGS_ISA {

// Splats copied at a time: records, rows and lists of a batch stay in the first-level cache.
constexpr int FORWARD_BATCH = 192;

// Vectors of a patch: the maps, then its channels.
enum ForwardMap { MAP_ALPHA, MAP_DEPTH, MAP_MEDIAN, MAP_DISTORTION, MAPS };

struct ForwardSpace {
  TileBatch batch;
  PixelState* state;   // [PATCHES]
  float* images;       // [PATCHES, MAPS + channels, PATCH]
  int patch_floats;    // (MAPS + channels) PATCH
  PatchWeights patch;  // of the patch at hand
  char* spare;         // of the caller, as many bytes as it asked for
  IQGS_INLINE float* sums(int k) const { return images + k * patch_floats + MAPS * PATCH; }
};

IQGS_INLINE ForwardSpace forward_space(const BlendParams& p, Arena& arena, size_t spare = 0) {
  const int channels = SHADE_CHANNELS + p.feature_count;
  ForwardSpace s;
  s.patch_floats = (MAPS + channels) * PATCH;
  const size_t images = static_cast<size_t>(PATCHES) * s.patch_floats;
  const size_t bytes = batch_bytes(FORWARD_BATCH, channels) + 4 * images +
                       sizeof(PixelState) * PATCHES + (4 * PATCH + 4) * (FORWARD_BATCH + VISITS) +
                       3 * 4 * PATCH * VISITS + 1024 + spare;
  Carver carver = {static_cast<char*>(arena.reserve(bytes))};
  s.batch = carve_batch(carver, FORWARD_BATCH, channels);
  s.state = carver.take<PixelState>(PATCHES);
  s.images = carver.take<float>(images);
  s.patch = {};
  s.patch.weight = carver.take<float>(PATCH * FORWARD_BATCH);
  s.patch.id = carver.take<int32_t>(FORWARD_BATCH);
  s.patch.alpha = carver.take<float>(PATCH * VISITS);
  s.patch.mapped_depth = carver.take<float>(PATCH * VISITS);
  s.patch.depth = carver.take<float>(PATCH * VISITS);
  s.spare = carver.next;
  return s;
}

// Adds the maps of the patches to their sums, then writes all planes of the tile.
IQGS_PHASE void write_tile(const BlendParams& p, int tile, ForwardSpace& space) {
  for (int k = 0; k < PATCHES; ++k) {
    const PixelState& s = space.state[k];
    float* maps = space.images + k * space.patch_floats;
    (FP(1.0f) - s.transmittance).store(maps + PATCH * MAP_ALPHA);
    s.depth.store(maps + PATCH * MAP_DEPTH);
    s.median_depth.store(maps + PATCH * MAP_MEDIAN);
    s.sums.total().store(maps + PATCH * MAP_DISTORTION);
    for (int c = 0; c < 3; ++c) {
      float* color = space.sums(k) + PATCH * (3 + c);
      fused(s.transmittance, FP(p.background[c]), FP::load(color)).store(color);
    }
  }
  const TileWindow window = tile_window(p, tile);
  const int64_t plane = static_cast<int64_t>(p.camera.width) * p.camera.height;
  float* const maps[MAPS] = {p.alpha, p.depth, p.median_depth, p.distortion};
  for (int c = 0; c < MAPS + SHADE_CHANNELS + p.feature_count; ++c) {
    float* out = c < MAPS                    ? maps[c]
                 : c < MAPS + 3              ? p.normal + (c - MAPS) * plane
                 : c < MAPS + SHADE_CHANNELS ? p.color + (c - MAPS - 3) * plane
                                             : p.feature + (c - MAPS - SHADE_CHANNELS) * plane;
    write_plane(window, space.images + PATCH * c, space.patch_floats, out);
  }
  finish_streams();
}

// Starts every patch of a tile; one bit for each that lies in the image.
IQGS_INLINE uint32_t start_patches(const BlendParams& p, int tile, ForwardSpace& space) {
  uint32_t open = 0;
  for (int k = 0; k < PATCHES; ++k) {
    space.state[k] = fresh_pixels(patch_pixels(p, tile, k).inside);
    if (any(space.state[k].alive)) open |= 1u << k;
  }
  return open;
}

// Loads the next batch of a tile's pairs [at, last) and lists it for the open patches; its length.
IQGS_INLINE int load_batch(const BlendParams& p, int tile, int64_t at, int64_t last, bool rows,
                           uint32_t open, TileBatch& b) {
  const int count = last - at < FORWARD_BATCH ? static_cast<int>(last - at) : FORWARD_BATCH;
  const TileOrigin origin = tile_origin(p.lists, tile);
  load_splats(p, at, count, rows, true, origin, b);
  load_shapes(p, at, count, b);
  for (int i = 0; i < count; i += LANES) mask_sixteen(b, i, origin, p.camera.near);
  list_patches(b, count, open);
  return count;
}

template <class Pixels>
void blend_forward(const BlendParams& p, int tile, Arena& arena) {
  const int channels = SHADE_CHANNELS + p.feature_count;
  const int64_t first = p.lists.start[tile], last = p.lists.start[tile + 1];
  const PixelOptions options = tile_options(p, first, last);
  ForwardSpace space = forward_space(p, arena);
  TileBatch& b = space.batch;
  uint32_t open = start_patches(p, tile, space);
  __builtin_memset(space.images, 0, sizeof(float) * PATCHES * space.patch_floats);

  // Batch by batch until the list ends or every pixel is saturated.
  int64_t at = first;
  while (at < last && open) {
    const int count = load_batch(p, tile, at, last, true, open, b);
    __builtin_memcpy(p.lists.mask + at, b.masks, sizeof(uint32_t) * count);
    const int64_t left = p.lists.start[p.lists.tiles_x * p.lists.tiles_y] - (at + count);
    const int ahead = static_cast<int>(left < FORWARD_BATCH ? left : FORWARD_BATCH);
    for (int k = 0; k < PATCHES; ++k) {
      fetch_ahead(p, at + count, ahead, k, PATCHES, true);
      if (b.count[k] == 0) continue;
      space.patch.count = 0;
      weigh_patch<Pixels, WantsImages>(b, b.lists + k * b.list_stride, b.count[k], patch_pixels(p, tile, k),
                               options, space.state[k], space.patch);
      accumulate_channels(channels, space.sums(k), b.rows, b.row_stride, space.patch);
      if (!any(space.state[k].alive)) open &= ~(1u << k);
    }
    at += count;
  }
  p.lists.used[tile] = static_cast<int32_t>(at - first);
  write_tile(p, tile, space);
}

}  // namespace IQGS_ISA
}  // namespace iqgs
