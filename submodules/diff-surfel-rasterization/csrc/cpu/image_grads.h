// SPDX-License-Identifier: Apache-2.0
// Image gradients of a tile as its backward pass reads them, patch by patch, and the memory that
// it works in.
#pragma once

#include "channel_products.h"
#include "patch_moments.h"
#include "tile_images.h"

namespace iqgs {
namespace IQGS_ISA {

// Image gradients of the pixels of a patch.
struct PixelGrad {
  FP behind;  // d L / d(final transmittance)
  FP depth, median_depth, distortion;
  uint32_t wild;  // lanes whose gradients are not tame, see TAME
  bool nothing;   // all are zero
};

// Vectors of a patch: gradients of the maps, then of its channels.
enum BackwardMap { GRAD_ALPHA, GRAD_DEPTH, GRAD_MEDIAN, GRAD_DISTORTION, GRAD_MAPS };

struct BackwardSpace {
  TileBatch batch;
  PatchWeights patch;
  float* linear;     // [n, PATCH] <row, dL/dchannels> of each splat of the patch
  float* images;     // [PATCHES, GRAD_MAPS + channels, PATCH] image gradients of the tile
  int patch_floats;  // (GRAD_MAPS + channels) PATCH
  float* panels;     // dL/dchannels of the patch, see PANEL
  float* moments;    // [n, RAW_FLOATS]
  float* absolute;   // [n, 2] M_ABS_X, M_ABS_Y
  float* grads;      // [n, wide] channels
  int wide;          // channels, whole vectors
  IQGS_INLINE float* map(int k) const { return images + k * patch_floats; }
  IQGS_INLINE float* channels(int k) const { return map(k) + GRAD_MAPS * PATCH; }
};

constexpr int FETCHED = 512;  // pairs of the next tile that are fetched ahead

constexpr int MOMENT_FLOATS = LANES;  // one vector
static_assert(MOMENTS == MOMENT_FLOATS, "the moments of a splat fill one vector");

IQGS_INLINE BackwardSpace backward_space(const BlendGradParams& p, int count, Arena& arena) {
  const int n = padded(count), wide = padded(p.channel_count);
  const int channels = SHADE_CHANNELS + p.forward.feature_count;
  BackwardSpace s;
  s.wide = wide;
  // Transposition reads four channels at a time.
  s.patch_floats = (GRAD_MAPS + (p.channel_count + 3) / 4 * 4) * PATCH;
  const size_t images = static_cast<size_t>(PATCHES) * s.patch_floats;
  const size_t panel_floats = static_cast<size_t>(panelled(p.channel_count)) * PATCH;
  const int patch_arrays = 8, lines = 16;  // lines: what rounding the arrays up can add
  const size_t per_splat = 4 * (patch_arrays * PATCH + 1 + RAW_FLOATS + 2 + wide);
  const size_t bytes = batch_bytes(n, channels) + n * per_splat + 4 * (images + panel_floats) +
                       4 * VISITS * (patch_arrays * PATCH + 1) + 64 * lines;
  Carver carver = {static_cast<char*>(arena.reserve(bytes))};
  s.batch = carve_batch(carver, n, channels);
  // A visit that misses is written past the end before it is dropped.
  const size_t visits = static_cast<size_t>(n) + 1, floats = visits * PATCH;
  s.patch = {};
  s.patch.id = carver.take<int32_t>(visits);
  float** const arrays[patch_arrays] = {&s.patch.weight,  &s.patch.alpha, &s.patch.mapped_depth,
                                        &s.patch.inverse, &s.patch.u,     &s.patch.v,
                                        &s.patch.disc,    &s.linear};
  for (float** array : arrays) *array = carver.take<float>(floats);
  s.images = carver.take<float>(images);
  s.panels = carver.take<float>(panel_floats);
  s.moments = carver.take<float>(static_cast<size_t>(n) * RAW_FLOATS);
  s.absolute = carver.take<float>(static_cast<size_t>(n) * 2);
  s.grads = carver.take<float>(static_cast<size_t>(n) * wide);
  __builtin_memset(s.panels, 0, sizeof(float) * panel_floats);
  return s;
}

// Plane i of the gradients: the maps, then the active channels; null where it is zero.
IQGS_INLINE const float* grad_plane(const BlendGradParams& p, int i) {
  const int64_t plane = static_cast<int64_t>(p.forward.camera.width) * p.forward.camera.height;
  const float* const maps[GRAD_MAPS] = {p.alpha, p.depth, p.median_depth, p.distortion};
  if (i < GRAD_MAPS) return maps[i];
  const int c = p.first_channel + i - GRAD_MAPS;
  const bool normal = c < 3, color = c < SHADE_CHANNELS;
  const float* base = normal ? p.normal : color ? p.color : p.feature;
  return base ? base + (normal ? c : color ? c - 3 : c - SHADE_CHANNELS) * plane : nullptr;
}

// Gathers the image gradients of a tile.
IQGS_PHASE void load_grads(const BlendGradParams& p, int tile, BackwardSpace& s) {
  const TileWindow window = tile_window(p.forward, tile);
  for (int i = 0; i < GRAD_MAPS + p.channel_count; ++i)
    read_plane(window, grad_plane(p, i), s.images + PATCH * i, s.patch_floats);
}

// Fetches part `part` of PATCHES of a tile's image gradients, see `fetch_ahead`.
IQGS_INLINE void fetch_grads(const BlendGradParams& p, int tile, int part) {
  if (tile >= p.forward.lists.tiles_x * p.forward.lists.tiles_y) return;
  const TileWindow window = tile_window(p.forward, tile);
  const int planes = GRAD_MAPS + p.channel_count;
  for (int i = planes * part / PATCHES; i < planes * (part + 1) / PATCHES; ++i) {
    const float* plane = grad_plane(p, i);
    if (!plane) continue;
    for (int j = 0; j < window.height; ++j)
      __builtin_prefetch(plane + window.first + j * window.row, 0, 2);
  }
}

// The gradients of one patch; its panels have zeros for wild lanes.
IQGS_PHASE PixelGrad take_grads(const BlendGradParams& p, int k, BackwardSpace& s) {
  const float* maps = s.map(k);
  PixelGrad g;
  g.depth = FP::load(maps + PATCH * GRAD_DEPTH);
  g.median_depth = FP::load(maps + PATCH * GRAD_MEDIAN);
  g.distortion = FP::load(maps + PATCH * GRAD_DISTORTION);
  g.behind = -FP::load(maps + PATCH * GRAD_ALPHA);
  FP size = magnitude(g.depth) + magnitude(g.median_depth) + magnitude(g.distortion) +
            magnitude(g.behind);
  const float* channels = s.channels(k);
  for (int i = 0; i < p.channel_count; ++i) {
    const int c = p.first_channel + i;
    FP value = FP::load(channels + PATCH * i);
    if (c >= 3 && c < SHADE_CHANNELS)
      g.behind = fused(value, FP(p.forward.background[c - 3]), g.behind);
    size = size + magnitude(value);
  }
  // Rounded up to four channels: what lies past the last one is never read.
  static_assert(PANEL % 4 == 0, "four channels lie in one panel");
  for (int i = 0; i < p.channel_count; i += 4)
    for (int j = 0; j < PATCH; j += 4)
      transpose_four(channels + PATCH * i + j, PATCH, panel_entry(s.panels, i, j), PANEL);
  g.wild = lane_bits(~(size < FP(TAME)));
  g.nothing = !g.wild && !any(size > FP(0.0f));
  for (uint32_t lanes = g.wild; lanes; lanes &= lanes - 1)
    for (int i = 0; i < p.channel_count; ++i) *panel_entry(s.panels, i, __builtin_ctz(lanes)) = 0;
  return g;
}

}  // namespace IQGS_ISA
}  // namespace iqgs
