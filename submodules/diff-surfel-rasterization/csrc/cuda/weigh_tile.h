// SPDX-License-Identifier: Apache-2.0
// Front to back over a tile's splats: the weight of each at each pixel of a warp. Images and stored
// weights run this same code, so they agree on who contributes.
#pragma once

#include "tile.h"

namespace iqgs {
namespace cuda {

// Splats copied at a time.
constexpr int FORWARD_BATCH = 128;

// Splats of a batch, and the blocks of the tile that each can touch.
struct Listed {
  int32_t* splats;
  uint32_t* masks;
};

// One splat as the pixels of half a warp meet it.
struct Meeting {
  const Listed& batch;
  int place;            // in the batch
  int position;         // in the tile's list
  bool hit;             // this lane's pixel receives a weight
  float weight;         // 0 where not
  float transmittance;  // before this splat
};

// Shared memory: a batch, and the list of the next.
struct Batch {
  RecordRows records;
  float* rows;   // of channels, see row_stride
  Listed lists;  // the first of two
};

inline size_t batch_bytes(int channels) {
  return FORWARD_BATCH * 4 * (RecordRows::STRIDE + row_stride(channels) + 4);
}

__device__ __forceinline__ Batch carve_batch(float* memory, int channels) {
  float* rows = memory + FORWARD_BATCH * RecordRows::STRIDE;
  auto* splats = reinterpret_cast<int32_t*>(rows + FORWARD_BATCH * row_stride(channels));
  auto* masks = reinterpret_cast<uint32_t*>(splats + 2 * FORWARD_BATCH);
  return {{memory}, rows, {splats, masks}};
}

__device__ __forceinline__ Listed listed(const Batch& b, int turn) {
  return {b.lists.splats + turn * FORWARD_BATCH, b.lists.masks + turn * FORWARD_BATCH};
}

__device__ __forceinline__ int batch_at(const Tile& tile, int64_t at) {
  return static_cast<int>(min(tile.last - at, int64_t(FORWARD_BATCH)));
}

__device__ __forceinline__ void list_batch(const BlendParams& p, const Tile& tile, int64_t at,
                                           const Listed& out) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= batch_at(tile, at)) return;
  out.splats[i] = p.lists.splat[at + i];
  out.masks[i] = p.lists.mask[at + i];
}

// Calls load(listed, count) to copy more of each batch's splats, all threads of the block together,
// and visit(record, hit, meeting) where a pixel of the warp is reached, with the half's own splat.
// Returns the number of pairs that were looked at; `transmittance` is what is left at the end.
template <class Load, class Visit>
__device__ __forceinline__ int walk_tile(const BlendParams& p, const Tile& tile, const Pixel& pixel,
                                         const PixelOptions& o, const Batch& b,
                                         float& transmittance, const Load& load,
                                         const Visit& visit) {
  bool alive = pixel.inside;
  int64_t at = tile.first;
  list_batch(p, tile, at, listed(b, 0));
  __syncthreads();
  for (int turn = 0; at < tile.last; turn ^= 1) {
    const Listed batch = listed(b, turn);
    const int count = batch_at(tile, at), thread = static_cast<int>(threadIdx.x);
    if (thread < count) load_record(p, tile, batch.splats[thread], b.records[thread]);
    load(batch, count);
    __syncthreads();
    list_batch(p, tile, at + count, listed(b, turn ^ 1));
    for (int word = 0; word < count; word += WARP) {
      const int i = word + lane_index();
      unsigned bits = half_bits(i < count ? batch.masks[i] : 0);
      while (__any_sync(EVERY_LANE, bits && alive)) {
        const bool waiting = bits && alive;  // else the other half alone goes on
        const int place = word + (bits ? __ffs(static_cast<int>(bits)) - 1 : 0);
        bits &= bits - 1;
        const SplatRecord& splat = b.records[place];
        const Hit<float> h = intersect(splat, o, pixel.px, pixel.py);
        bool hit = both(waiting, inside(splat, h, o));
        if (!__any_sync(EVERY_LANE, hit)) continue;
        float w = hit ? splat_alpha(splat, h) * transmittance : 0.0f;
        if (hit && transmittance - w < STOP_TRANSMITTANCE) {
          alive = hit = false;
          w = 0.0f;
        }
        const int position = static_cast<int>(at - tile.first) + place;
        visit(splat, h, Meeting{batch, place, position, hit, w, transmittance});
        transmittance = transmittance - w;
      }
    }
    at += count;
    if (__syncthreads_and(!alive)) break;
  }
  return static_cast<int>(at - tile.first);
}

}  // namespace cuda
}  // namespace iqgs
