// SPDX-License-Identifier: Apache-2.0
// Sorts splats into tiles, front to back: by depth (N keys), then, stably, by tile (M keys). The
// number of pairs M stays on the device; arrays have room for `capacity` pairs.
#include "block_mask.h"
#include "device_algorithms.h"
#include "kernels.h"
#include "warp.h"

namespace iqgs {
namespace cuda {
namespace {

constexpr int THREADS = 256;
constexpr int ALONE = 16;  // a splat in more tiles than this is spread over its warp

size_t aligned(size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

// Splits working memory into arrays.
struct Carver {
  char* next;
  template <class T>
  T* take(int64_t count) {
    T* r = reinterpret_cast<T*>(next);
    next += aligned(sizeof(T) * count);
    return r;
  }
};

// Working memory of the sort by depth. What `bin_splats` needs comes first.
struct Ordered {
  uint32_t* splat;    // [N] by depth, those that are not visible last
  int64_t* position;  // [N + 1] first pair of the i-th splat by depth; M at the end
  int64_t* first;     // [N + 1] first pair of splat n, counted by index
  uint32_t *keys, *index;
  int64_t* tiles;
  char* temp;
};

Ordered carve_ordered(void* memory, int64_t n) {
  Carver c = {static_cast<char*>(memory)};
  return {c.take<uint32_t>(n),
          c.take<int64_t>(n + 1),
          c.take<int64_t>(n + 1),
          c.take<uint32_t>(n),
          c.take<uint32_t>(n),
          c.take<int64_t>(n + 1),
          c.next};
}

size_t order_temp(int64_t n) {
  const size_t scan = scan_bytes(n + 1), sort = sort_bytes(n);
  return scan > sort ? scan : sort;
}

// Working memory of the sort by tile.
struct Binned {
  uint32_t *keys, *sorted_keys;
  uint64_t *pairs, *sorted_pairs;  // splat, and above it the row
  char* temp;
};

Binned carve_binned(void* memory, int64_t capacity) {
  Carver c = {static_cast<char*>(memory)};
  return {c.take<uint32_t>(capacity), c.take<uint32_t>(capacity), c.take<uint64_t>(capacity),
          c.take<uint64_t>(capacity), c.next};
}

__global__ void __launch_bounds__(THREADS)
    number_kernel(int64_t count, const int64_t* first, int32_t* offset, uint32_t* index) {
  const int64_t n = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (n > count) return;
  const int64_t most = 2147483647;  // the caller refuses more pairs than this
  offset[n] = static_cast<int32_t>(first[n] < most ? first[n] : most);
  if (n < count) index[n] = static_cast<uint32_t>(n);
}

__global__ void __launch_bounds__(THREADS)
    reorder_kernel(int64_t count, const uint32_t* order, const int64_t* tiles, int64_t* ordered) {
  const int64_t i = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (i <= count) ordered[i] = i < count ? tiles[order[i]] : 0;
}

struct EmitParams {
  int tiles_x;
  const TileBox* boxes;
  Ordered ordered;
  int64_t count, capacity;
  uint32_t* keys;
  uint64_t* pairs;
};

// Pair k of a splat, counted row by row over its box.
__device__ __forceinline__ void emit_pair(const EmitParams& p, uint32_t splat, const TileBox& box,
                                          int64_t position, int64_t row, int k) {
  const int64_t at = position + k;
  if (at >= p.capacity) return;
  const int width = box.x1 - box.x0;
  p.keys[at] = static_cast<uint32_t>((box.y0 + k / width) * p.tiles_x + box.x0 + k % width);
  p.pairs[at] = static_cast<uint64_t>(row + k) << 32 | splat;
}

__global__ void __launch_bounds__(THREADS) emit_kernel(EmitParams p) {
  const int64_t i = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  uint32_t splat = 0;
  TileBox box = {0, 0, 0, 0};
  int64_t position = 0, row = 0;
  if (i < p.count) {
    splat = p.ordered.splat[i];
    box = p.boxes[splat];
    position = p.ordered.position[i];
    row = p.ordered.first[splat];
  }
  const int count = static_cast<int>(area(box));
  for (int k = 0; count <= ALONE && k < count; ++k) emit_pair(p, splat, box, position, row, k);
  // Large splats one after the other, a lane a pair.
  unsigned large = __ballot_sync(EVERY_LANE, count > ALONE);
  for (; large; large &= large - 1) {
    const int from = __ffs(static_cast<int>(large)) - 1;
    const uint64_t packed =
        uint64_t(box.x0) | uint64_t(box.y0) << 16 | uint64_t(box.x1) << 32 | uint64_t(box.y1) << 48;
    const uint64_t b = __shfl_sync(EVERY_LANE, packed, from);
    const TileBox shared = {static_cast<uint16_t>(b), static_cast<uint16_t>(b >> 16),
                            static_cast<uint16_t>(b >> 32), static_cast<uint16_t>(b >> 48)};
    const uint32_t s = __shfl_sync(EVERY_LANE, splat, from);
    const int64_t at = __shfl_sync(EVERY_LANE, position, from);
    const int64_t r = __shfl_sync(EVERY_LANE, row, from);
    const int pairs = static_cast<int>(area(shared));
    for (int k = lane_index(); k < pairs; k += WARP) emit_pair(p, s, shared, at, r, k);
  }
}

// Sorted pairs to the lists, with their masks; where the tile changes, the tiles in between start.
__global__ void __launch_bounds__(THREADS)
    list_kernel(BinParams p, Binned b, const int64_t* total, int64_t capacity, PairLists out) {
  const int64_t j = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  const int64_t pairs = *total < capacity ? *total : capacity;
  const int tiles = p.grid.x * p.grid.y;
  if (j > pairs) return;
  const int from = j == 0 ? 0 : static_cast<int>(b.sorted_keys[j - 1]) + 1;
  const int to = j == pairs ? tiles : static_cast<int>(b.sorted_keys[j]);
  for (int t = from; t <= to; ++t) out.start[t] = static_cast<int32_t>(j);
  if (j == pairs) return;
  const auto splat = static_cast<int32_t>(b.sorted_pairs[j]);
  out.splat[j] = splat;
  out.row[j] = static_cast<int32_t>(b.sorted_pairs[j] >> 32);
  const float x = static_cast<float>(to % p.grid.x * TILE);
  const float y = static_cast<float>(to / p.grid.x * TILE);
  out.mask[j] = block_mask(p.records[splat], p.footprints[splat], x, y, p.near);
}

// Bits that tell `tiles` numbers and one more, all ones, which marks an unused place.
int tile_bits(int tiles) {
  int bits = 1;
  while (tiles >> bits) ++bits;
  return bits;
}

}  // namespace

size_t order_bytes(int64_t count) {
  const Ordered end = carve_ordered(nullptr, count);
  return reinterpret_cast<size_t>(end.temp) + aligned(order_temp(count));
}

size_t bin_bytes(int64_t capacity) {
  const Binned end = carve_binned(nullptr, capacity);
  return reinterpret_cast<size_t>(end.temp) + aligned(sort_bytes_wide(capacity));
}

const int64_t* order_splats(const BinParams& p, void* memory, void* stream) {
  const Ordered o = carve_ordered(memory, p.count);
  const size_t temp = order_temp(p.count);
  const int blocks = blocks_for(p.count + 1, THREADS);
  exclusive_scan(o.temp, temp, p.tiles, o.first, p.count + 1, stream);
  launch("number", stream, blocks, THREADS, 0, &number_kernel, p.count, o.first, p.offset, o.index);
  sort_pairs(o.temp, temp, p.depth_keys, o.keys, o.index, o.splat, p.count, 32, stream);
  launch("reorder", stream, blocks, THREADS, 0, &reorder_kernel, p.count, o.splat, p.tiles,
         o.tiles);
  exclusive_scan(o.temp, temp, o.tiles, o.position, p.count + 1, stream);
  return o.position + p.count;
}

void bin_splats(const BinParams& p, const void* ordered, int64_t capacity, void* memory,
                const PairLists& out, void* stream) {
  const Ordered o = carve_ordered(const_cast<void*>(ordered), p.count);
  const Binned b = carve_binned(memory, capacity);
  const int tiles = p.grid.x * p.grid.y;
  // Unused places sort to the end; their pairs are moved along, so they need a value as well.
  const auto s = static_cast<cudaStream_t>(stream);
  {
    const Timed timed("clear_pairs", stream);
    check(cudaMemsetAsync(b.keys, 0xff, sizeof(uint32_t) * capacity, s), "bin_splats");
    check(cudaMemsetAsync(b.pairs, 0, sizeof(uint64_t) * capacity, s), "bin_splats");
  }
  const EmitParams emit = {p.grid.x, p.boxes, o, p.count, capacity, b.keys, b.pairs};
  launch("emit", stream, blocks_for(p.count, THREADS), THREADS, 0, &emit_kernel, emit);
  sort_pairs(b.temp, sort_bytes_wide(capacity), b.keys, b.sorted_keys, b.pairs, b.sorted_pairs,
             capacity, tile_bits(tiles), stream);
  launch("list", stream, blocks_for(capacity + 1, THREADS), THREADS, 0, &list_kernel, p, b,
         o.position + p.count, capacity, out);
}

}  // namespace cuda
}  // namespace iqgs
