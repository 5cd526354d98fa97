// SPDX-License-Identifier: Apache-2.0
// Front to back over a tile's splats: the weight of each at each pixel of a warp. Images and stored
// weights run this same code, so they agree on who contributes.
#pragma once

#include "tile.h"

namespace iqgs {
namespace cuda {

// Splats copied at a time.
constexpr int FORWARD_BATCH = 128;

// One splat as the pixels of half a warp meet it.
struct Meeting {
  int place;            // in the batch
  int position;         // in the tile's list
  bool hit;             // this lane's pixel receives a weight
  float weight;         // 0 where not
  float transmittance;  // before this splat
};

// Shared memory of a batch.
struct Batch {
  RecordRows records;
  float* rows;  // of channels, see row_stride
  int32_t* splats;
  uint32_t* masks;
};

inline size_t batch_bytes(int channels) {
  return FORWARD_BATCH * 4 * (RecordRows::STRIDE + row_stride(channels) + 2);
}

__device__ __forceinline__ Batch carve_batch(float* memory, int channels) {
  Batch b;
  b.records = {memory};
  b.rows = memory + FORWARD_BATCH * RecordRows::STRIDE;
  b.splats = reinterpret_cast<int32_t*>(b.rows + FORWARD_BATCH * row_stride(channels));
  b.masks = reinterpret_cast<uint32_t*>(b.splats + FORWARD_BATCH);
  return b;
}

// The next splats of the tile and the blocks that each can touch.
__device__ __forceinline__ int load_batch(const BlendParams& p, const Tile& tile, int64_t at,
                                          const Batch& b) {
  const int64_t left = tile.last - at;
  const int count = left < FORWARD_BATCH ? static_cast<int>(left) : FORWARD_BATCH;
  const int i = static_cast<int>(threadIdx.x);
  if (i < count) {
    b.splats[i] = p.lists.splat[at + i];
    b.masks[i] = p.lists.mask[at + i];
  }
  return count;
}

// Calls load(count) to copy more of each batch's splats, all threads of the block together, and
// visit(record, hit, meeting) where a pixel of the warp is reached, with the half's own splat.
// Returns the number of pairs that were looked at; `transmittance` is what is left at the end.
template <class Pixels, class Load, class Visit>
__device__ __forceinline__ int walk_tile(const BlendParams& p, const Tile& tile, const Pixel& pixel,
                                         const PixelOptions& o, const Batch& b,
                                         float& transmittance, const Load& load,
                                         const Visit& visit) {
  bool alive = pixel.inside;
  int64_t at = tile.first;
  while (at < tile.last) {
    if (__syncthreads_and(!alive)) break;
    const int count = load_batch(p, tile, at, b);
    __syncthreads();
    const int i = static_cast<int>(threadIdx.x);
    if (i < count) load_record(p, tile, b.splats[i], b.records[i]);
    load(count);
    __syncthreads();
    for (int word = 0; word < count; word += WARP) {
      const int i = word + lane_index();
      unsigned bits = half_bits(i < count ? b.masks[i] : 0);
      while (__any_sync(EVERY_LANE, bits && alive)) {
        const bool waiting = bits && alive;  // else the other half alone goes on
        const int place = word + (bits ? __ffs(static_cast<int>(bits)) - 1 : 0);
        bits &= bits - 1;
        const SplatRecord& splat = b.records[place];
        const auto h = Pixels::intersect(splat, o, pixel.px, pixel.py);
        bool hit = both(waiting, Pixels::inside(splat, h, o));
        if (!__any_sync(EVERY_LANE, hit)) continue;
        float w = hit ? splat_alpha(splat, Pixels::rho(h)) * transmittance : 0.0f;
        if (hit && transmittance - w < STOP_TRANSMITTANCE) {
          alive = hit = false;
          w = 0.0f;
        }
        visit(splat, h,
              Meeting{place, static_cast<int>(at - tile.first) + place, hit, w, transmittance});
        transmittance = transmittance - w;
      }
    }
    at += count;
  }
  return static_cast<int>(at - tile.first);
}

}  // namespace cuda
}  // namespace iqgs
