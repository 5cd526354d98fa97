// SPDX-License-Identifier: Apache-2.0
// A batch of the backward pass in shared memory, from the lists of its splats to the rows of sums
// that are written.
#pragma once

#include "pixel_grads.h"

namespace iqgs {
namespace cuda {

// Splats that are copied at a time at most, and those of them that a warp has sums for: where one
// needs more, the batch is cut.
constexpr int BACKWARD_BATCH = 64;
constexpr int BACKWARD_WORDS = BACKWARD_BATCH / WARP;
constexpr int SLOTS = 20;

// What the lanes tell each other of the splats at hand: a row of these for the pixels of a warp.
enum Staged {
  S_WEIGHT,
  STAGED_WITHOUT_GEOMETRY,
  S_U = STAGED_WITHOUT_GEOMETRY,  // (dL/du) / ratio
  S_V,                            // (dL/dv) / ratio
  S_W,                            // dL/dratio
  S_ALPHA,
  S_ANCHOR_X,
  S_ANCHOR_Y,
  STAGED_OF_PLANE,
  S_DEPTH = STAGED_OF_PLANE,
  S_HIT_DEPTH,
  STAGED
};
// Floats of such a row: lanes that read different rows do not share banks.
constexpr int STAGE_STRIDE = WARP + 4;

__host__ __device__ constexpr int staged_floats(int geometry) {
  return STAGE_STRIDE * (geometry == NO_GEOMETRY ? int(STAGED_WITHOUT_GEOMETRY)
                         : geometry == PLANE     ? int(STAGED_OF_PLANE)
                                                 : int(STAGED));
}

// Who is in a batch, the hindmost splat first.
struct ListedGrads {
  int32_t* splats;    // [BACKWARD_BATCH]
  int32_t* rows;      // [BACKWARD_BATCH] the pairs' rows of gradients
  uint32_t* masks;    // [BACKWARD_BATCH]
  uint32_t* reaches;  // [TILE_WARPS, BACKWARD_WORDS] a bit a splat: it may reach the warp
};

// Shared memory: a batch, and the list of the next. A row of sums is MOMENTS (if geometry), then
// channels; a warp has rows for those splats alone that may reach it.
struct GradBatch {
  RecordRows records;  // [BACKWARD_BATCH]
  float* rows;         // [BACKWARD_BATCH, channels], see row_stride
  float* sums;         // [TILE_WARPS, SLOTS, values]
  float* stage;        // [TILE_WARPS, staged]
  int* limits;         // [TILE_WARPS] splats of the batch that the warp has room for
  uint32_t* lists;     // two lists
};

constexpr int LIST_WORDS = 3 * BACKWARD_BATCH + TILE_WARPS * BACKWARD_WORDS;

__host__ __device__ constexpr int grad_values(int channels, int geometry) {
  return (geometry == NO_GEOMETRY ? 0 : int(MOMENTS)) + channels;
}

__host__ __device__ constexpr int sum_floats(int channels, int geometry) {
  return TILE_WARPS * SLOTS * grad_values(channels, geometry);
}

inline size_t grad_bytes(int channels, int geometry) {
  return size_t(4) *
         (BACKWARD_BATCH * (RecordRows::STRIDE + row_stride(channels)) + 2 * LIST_WORDS +
          sum_floats(channels, geometry) + TILE_WARPS * (staged_floats(geometry) + 1));
}

template <int CHANNELS, int GEOMETRY>
__device__ __forceinline__ GradBatch carve_grads(float* memory) {
  GradBatch b;
  b.records = {memory};
  b.rows = memory + BACKWARD_BATCH * RecordRows::STRIDE;
  b.sums = b.rows + BACKWARD_BATCH * row_stride(CHANNELS);
  b.stage = b.sums + sum_floats(CHANNELS, GEOMETRY);
  b.limits = reinterpret_cast<int*>(b.stage + TILE_WARPS * staged_floats(GEOMETRY));
  b.lists = reinterpret_cast<uint32_t*>(b.limits + TILE_WARPS);
  return b;
}

__device__ __forceinline__ ListedGrads listed_grads(const GradBatch& b, int turn) {
  uint32_t* words = b.lists + turn * LIST_WORDS;
  auto* splats = reinterpret_cast<int32_t*>(words);
  return {splats, splats + BACKWARD_BATCH, words + 2 * BACKWARD_BATCH, words + 3 * BACKWARD_BATCH};
}

// Splats up to `end` of the tile's list, where that is positive.
__device__ __forceinline__ void list_batch(const BlendParams& p, const Tile& tile, int end,
                                           const ListedGrads& out) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= min(end, BACKWARD_BATCH)) return;
  const int64_t pair = tile.first + end - 1 - i;
  out.splats[i] = p.lists.splat[pair];
  out.rows[i] = p.lists.row[pair];
  out.masks[i] = p.lists.mask[pair];
}

// Place of the warp's sums of splat i of the batch.
__device__ __forceinline__ int slot_of(const ListedGrads& batch, int warp, int i) {
  const uint32_t* reaches = batch.reaches + warp * BACKWARD_WORDS;
  const uint32_t before = (1u << (i % WARP)) - 1u;
  static_assert(BACKWARD_WORDS == 2, "a word or two");
  return i < WARP ? __popc(reaches[0] & before) : __popc(reaches[0]) + __popc(reaches[1] & before);
}

// Finds the splats that may reach each warp, and how many of the `count` it has room for.
__device__ __forceinline__ void find_reaches(const ListedGrads& batch, int count, int* limits) {
  const int lane = lane_index(), warp = warp_index();
  int before = 0, limit = count;
  for (int word = 0; word < BACKWARD_WORDS; ++word) {
    const int i = word * WARP + lane;
    const bool mine = i < count && (batch.masks[i] & (3u * left_block()));
    const uint32_t bits = __ballot_sync(EVERY_LANE, mine);
    if (lane == 0) batch.reaches[warp * BACKWARD_WORDS + word] = bits;
    const bool beyond = mine && before + __popc(bits & ((1u << lane) - 1u)) >= SLOTS;
    const uint32_t over = __ballot_sync(EVERY_LANE, beyond);
    if (over && limit == count) limit = word * WARP + __ffs(static_cast<int>(over)) - 1;
    before += __popc(bits);
  }
  if (lane == 0) limits[warp] = limit;
}

// Adds the warps' sums of a batch in order, writes the rows of the pairs, and leaves zeros. Four
// numbers a thread: rows end on a cache line, so what the last four have too many finds room.
template <int VALUES>
__device__ void write_rows(const BlendGradParams& p, const GradBatch& b, const ListedGrads& batch,
                           int count, int moments, int column, int columns) {
  static_assert(VALUES % 4 == 0 && MOMENTS % 4 == 0 && WIDEST % 4 == 0, "fours of one kind");
  constexpr int QUADS = VALUES / 4;
  for (int k = threadIdx.x; k < count * QUADS; k += TILE_THREADS) {
    const int i = k / QUADS, v = k % QUADS * 4;
    float4 sum = four_zeros();
    const uint32_t blocks = batch.masks[i], lefts = 0x55555555u;
    for (uint32_t warps = (blocks | blocks >> 1) & lefts; warps; warps &= warps - 1) {
      const int warp = (__ffs(static_cast<int>(warps)) - 1) / 2;
      float4* from = reinterpret_cast<float4*>(b.sums) +
                     (warp * SLOTS + slot_of(batch, warp, i)) * QUADS + v / 4;
      sum = plus(sum, *from);
      *from = four_zeros();
    }
    if (v >= moments + columns) continue;
    float* row = p.rows + int64_t(batch.rows[i]) * p.row_floats;
    *reinterpret_cast<float4*>(row + (v < moments ? v : column + v - moments)) = sum;
  }
}

// Rows of the pairs that no pixel reached, a warp a row.
__device__ __forceinline__ void clear_rows(const BlendGradParams& p, int64_t from, int64_t to,
                                           int moments, int column, int columns) {
  for (int64_t pair = from + warp_index(); pair < to; pair += TILE_WARPS) {
    float* row = p.rows + int64_t(p.forward.lists.row[pair]) * p.row_floats;
    for (int v = 4 * lane_index(); v < moments + columns; v += 4 * WARP)
      *reinterpret_cast<float4*>(row + (v < moments ? v : column + v - moments)) = four_zeros();
  }
}

// Zeros for the sums of the warps.
template <int FLOATS>
__device__ __forceinline__ void clear_sums(float* sums) {
  static_assert(FLOATS % 4 == 0, "fours");
  for (int k = threadIdx.x; k < FLOATS / 4; k += TILE_THREADS)
    reinterpret_cast<float4*>(sums)[k] = four_zeros();
}

// One past the last splat that any pixel of the block received.
__device__ __forceinline__ int last_of_block(const GradBatch& b, int last) {
  const int warp_last = warp_max(last);
  if (lane_index() == 0) b.limits[warp_index()] = warp_last;
  __syncthreads();
  int block_last = 0;
  for (int w = 0; w < TILE_WARPS; ++w) block_last = max(b.limits[w], block_last);
  return block_last;
}

}  // namespace cuda
}  // namespace iqgs
