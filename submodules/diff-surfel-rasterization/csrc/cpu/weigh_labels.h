// SPDX-License-Identifier: Apache-2.0
// The blending weights of a tile, summed by splat and by the label of the pixel. No weight is
// written: a batch of splats has a sum for each label of the tile, and these are added to the table
// of all splats as whole numbers, so that the order of the tiles and the threads does not matter.
#pragma once

#include "blend_forward.h"

namespace iqgs {
namespace IQGS_ISA {

constexpr int TILE_PIXELS = TILE * TILE;

// The pixels of a patch that have one label in one map.
struct LabelGroup {
  float ones[PATCH];  // 1 where the pixel is one of them, else 0
  uint32_t lanes;     // the same as bits
  int32_t kind;
};

// The labels of a tile, renumbered 0 .. kinds - 1.
struct TileLabels {
  int kinds;
  int32_t* column;         // [kinds] of the sums
  LabelGroup* groups;      // [PATCHES, stride]
  int stride;              // PATCH maps
  int count[PATCHES];      // groups of each patch
  float* sums;             // [FORWARD_BATCH, kinds] of the batch at hand
  uint8_t* met;            // [FORWARD_BATCH] whether a sum of the splat is not zero
};

IQGS_INLINE size_t label_bytes(int maps) {
  const size_t kinds = static_cast<size_t>(maps) * TILE_PIXELS;
  return 4 * kinds + sizeof(LabelGroup) * kinds + (4 * kinds + 1) * FORWARD_BATCH + 64 * 5;
}

IQGS_INLINE TileLabels carve_labels(int maps, char* memory) {
  Carver carver = {memory};
  TileLabels t;
  t.kinds = 0;
  t.stride = PATCH * maps;
  t.column = carver.take<int32_t>(static_cast<size_t>(maps) * TILE_PIXELS);
  t.groups = carver.take<LabelGroup>(static_cast<size_t>(maps) * TILE_PIXELS);
  t.met = carver.take<uint8_t>(FORWARD_BATCH);
  t.sums = carver.take<float>(static_cast<size_t>(maps) * TILE_PIXELS * FORWARD_BATCH);
  return t;
}

// The number of a label, given one where it has none yet; those before `from` are another map's.
IQGS_INLINE int32_t kind_of(TileLabels& t, int from, int32_t column) {
  for (int k = from; k < t.kinds; ++k)
    if (t.column[k] == column) return k;
  t.column[t.kinds] = column;
  return t.kinds++;
}

// Adds a pixel to the group of its label in a patch; groups before `from` are another map's.
IQGS_INLINE void add_to_group(LabelGroup* groups, int from, int& count, int lane, int32_t kind) {
  int g = from;
  while (g < count && groups[g].kind != kind) ++g;
  if (g == count) {
    ++count;
    __builtin_memset(&groups[g], 0, sizeof(LabelGroup));
    groups[g].kind = kind;
  }
  groups[g].ones[lane] = 1.0f;
  groups[g].lanes |= 1u << lane;
}

IQGS_PHASE void read_labels(const LabelWeightParams& p, int tile, TileLabels& t) {
  const int64_t width = p.blend.camera.width, height = p.blend.camera.height;
  for (int k = 0; k < PATCHES; ++k) t.count[k] = 0;
  for (int map = 0; map < p.maps; ++map) {
    const int32_t* const labels = p.labels + map * width * height;
    const int first_kind = t.kinds;
    int32_t last = -1, kind = -1;  // neighbours mostly share a label
    for (int k = 0; k < PATCHES; ++k) {
      const PatchPixels pixels = patch_pixels(p.blend, tile, k);
      LabelGroup* const groups = t.groups + k * t.stride;
      const int first_group = t.count[k];
      for (int lane = 0; lane < PATCH; ++lane) {
        const int64_t x = pixels.x + lane % PATCH_WIDTH, y = pixels.y + lane / PATCH_WIDTH;
        if (x >= width || y >= height) continue;
        const int32_t column = labels[y * width + x];
        if (column < 0) continue;
        if (column != last) kind = kind_of(t, first_kind, last = column);
        add_to_group(groups, first_group, t.count[k], lane, kind);
      }
    }
  }
}

// Adds the weights of one patch to the sums of the batch.
IQGS_PHASE void sum_patch(const LabelWeightParams& p, int patch, const PatchWeights& w,
                          TileLabels& t) {
  const FP zero(0.0f), least(p.min_weight);
  const LabelGroup* const groups = t.groups + patch * t.stride;
  const int count = t.count[patch];
  for (int i = 0; i < w.count; ++i) {
    const FP value = FP::load(w.weight + PATCH * i);
    const MaskP kept = (value > zero) & (value >= least);
    const uint32_t bits = lane_bits(kept);
    const FP weight = zero_unless(kept, value);
    float* const sums = t.sums + w.id[i] * t.kinds;
    for (int g = 0; g < count; ++g) {
      if (!(bits & groups[g].lanes)) continue;
      sums[groups[g].kind] += lane_sum(weight * FP::load(groups[g].ones));
      t.met[w.id[i]] = 1;
    }
  }
}

// Adds the sums of a batch, from pair `first` on, to those of the splats, and clears them.
IQGS_PHASE void flush_batch(const LabelWeightParams& p, int64_t first, int count, TileLabels& t) {
  for (int i = 0; i < count; ++i) {
    if (!t.met[i]) continue;
    t.met[i] = 0;
    float* const sums = t.sums + i * t.kinds;
    int64_t* const out = p.sums + p.blend.lists.splat[first + i] * p.columns;
    for (int k = 0; k < t.kinds; ++k) {
      if (sums[k] == 0.0f) continue;
      const int64_t parts = __builtin_llrintf(sums[k] * LABEL_WEIGHT_PARTS);
      __atomic_fetch_add(out + t.column[k], parts, __ATOMIC_RELAXED);
      sums[k] = 0.0f;
    }
  }
}

template <class Pixels>
void weigh_labels(const LabelWeightParams& p, int tile, Arena& arena) {
  const BlendParams& blend = p.blend;
  const int64_t first = blend.lists.start[tile], last = blend.lists.start[tile + 1];
  const PixelOptions options = tile_options(blend, first, last);
  ForwardSpace space = forward_space(blend, arena, label_bytes(p.maps));
  TileLabels labels = carve_labels(p.maps, space.spare);
  TileBatch& b = space.batch;
  read_labels(p, tile, labels);
  if (labels.kinds == 0) return;
  __builtin_memset(labels.met, 0, FORWARD_BATCH);
  __builtin_memset(labels.sums, 0, sizeof(float) * FORWARD_BATCH * labels.kinds);
  uint32_t open = start_patches(blend, tile, space);
  // Patches that say nothing are not looked at.
  for (int k = 0; k < PATCHES; ++k)
    if (!labels.count[k]) open &= ~(1u << k);
  for (int64_t at = first; at < last && open;) {
    const int count = load_batch(blend, tile, at, last, false, open, b);
    // The rows of the sums lie anywhere: they are on their way while the weights are made.
    for (int i = 0; i < count; ++i)
      __builtin_prefetch(p.sums + blend.lists.splat[at + i] * p.columns + labels.column[0], 1, 2);
    for (int k = 0; k < PATCHES; ++k) {
      if (b.count[k] == 0) continue;
      space.patch.count = 0;
      weigh_patch<Pixels, WantsNothing>(b, b.lists + k * b.list_stride, b.count[k],
                                        patch_pixels(blend, tile, k), options, space.state[k],
                                        space.patch);
      sum_patch(p, k, space.patch, labels);
      if (!any(space.state[k].alive)) open &= ~(1u << k);
    }
    flush_batch(p, at, count, labels);
    at += count;
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
