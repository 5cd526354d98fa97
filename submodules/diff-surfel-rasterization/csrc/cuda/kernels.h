// SPDX-License-Identifier: Apache-2.0
// The phases of the CUDA backend for its callers: raw device pointers and a stream, no CUDA header.
// Every function queues its work on `stream` and returns; memory belongs to the caller.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../common/params.h"

namespace iqgs {
namespace cuda {

// Makes `device` current for this library's own runtime.
void use_device(int device);

// Splats to records, footprints, shades, boxes and radii; and what sorting needs of each.
// depth_keys [N]: order by depth of the visible splats, the others last. tiles [N + 1]: number of
// tiles, 0 at the end.
void project_splats(const ProjectParams& p, uint32_t* depth_keys, int64_t* tiles, void* stream);

// What the backward pass needs of the pixels.
struct PixelTotals {
  float* transmittance;  // [H, W] at the end
  float* first;          // [H, W] sum of w m, the distortion's
  float* second;         // [H, W] sum of w m^2
  int32_t* last;         // [H, W] one past the last contributing splat of the tile's list
  int32_t* median;       // [H, W] the splat of the median depth, -1 if none
};

void blend_tiles(const BlendParams& p, const PixelTotals& totals, void* stream);
void blend_tiles_backward(const BlendGradParams& p, const PixelTotals& totals, void* stream);

// moments [N, MOMENTS] and shades [N, SHADE_CHANNELS] are working memory.
void project_splats_backward(const ProjectGradParams& p, float* moments, float* shades,
                             void* stream);

// Blending weights of one view, pixel by pixel (CSR, row = y width + x).
struct WeightParams {
  BlendParams blend;         // its image pointers are not read
  float min_weight;          // smaller weights are left out
  const int64_t* row_start;  // [H W + 1] null while counting
  int64_t* count;            // [H W] out while counting
  int32_t* splat;            // [nnz] out
  float* weight;             // [nnz] out
};
void weigh_tiles(const WeightParams& p, void* stream);
// Adds to the sums; the same bits on every run.
void weigh_tiles(const LabelWeightParams& p, void* stream);

// Sorting of splats into tiles. Pairs of (tile, splat) are M; `capacity` is the room for them.
struct BinParams {
  TileGrid grid;
  int64_t count;               // N
  const TileBox* boxes;        // [N]
  const uint32_t* depth_keys;  // [N]
  const int64_t* tiles;        // [N + 1]
  int32_t* offset;             // [N + 1] out, first pair of each splat
  const SplatRecord* records;  // [N]
  const Footprint* footprints;
  float near;  // of the camera
};

// Bytes of working memory.
size_t order_bytes(int64_t count);
size_t bin_bytes(int64_t capacity);

// Fills `offset`, and in the working memory the splats by depth with the place of their first pair.
// Returns where the number of pairs M will be on the device.
const int64_t* order_splats(const BinParams& p, void* memory, void* stream);

// Scatters the ordered splats into tiles: start [tiles + 1], and [capacity] splat, row and mask,
// the blocks of 4 x 4 pixels of the tile that the splat can reach. Pairs beyond the capacity are
// dropped: the caller compares M and calls again with more.
struct PairLists {
  int32_t *start, *splat, *row;
  uint32_t* mask;
};
void bin_splats(const BinParams& p, const void* ordered, int64_t capacity, void* memory,
                const PairLists& out, void* stream);

// A number on its way from the device; nothing waits until `take`.
class PendingCount {
 public:
  PendingCount(const int64_t* device_value, void* stream);
  ~PendingCount();
  PendingCount(const PendingCount&) = delete;
  PendingCount& operator=(const PendingCount&) = delete;
  int64_t take();

 private:
  int64_t* host_;
  void* event_;
  bool arrived_ = false;
};

}  // namespace cuda
}  // namespace iqgs
