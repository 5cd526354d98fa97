// SPDX-License-Identifier: Apache-2.0
// Products with stored weights: forward a thread adds one channel of a pixel, or of a quad's four.
// Backward the entries are taken by splat and cut into chunks of one length, whatever splat they belong
// to; a thread adds one channel of a chunk, or four where rows lie in fours. Sums of splats that lie in
// several chunks are put together in their order. No atomics: the same bits on every run.
#include "products.h"

#include "device_algorithms.h"
#include "launch.h"

namespace iqgs {
namespace cuda {
namespace {

constexpr int THREADS = 256;
constexpr int CHUNK = 64;  // entries

size_t aligned(size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

SURFEL_HD int64_t chunks_of(int64_t entries) {
  return (entries + CHUNK - 1) / CHUNK;
}

// Splits working memory into arrays.
struct Carver {
  char* next;
  template <class T>
  T* take(int64_t count) {
    T* r = reinterpret_cast<T*>(next);
    next += aligned(sizeof(T) * static_cast<size_t>(count));
    return r;
  }
};

// What is sorted by splat where the table does not keep its order.
struct Unsorted {
  uint32_t *keys, *sorted_keys;
  uint64_t *places, *sorted_places;
  int64_t* start;
  char* rest;
};

Unsorted carve_unsorted(void* memory, int64_t entries, int64_t splats) {
  Carver c = {static_cast<char*>(memory)};
  return {c.take<uint32_t>(entries), c.take<uint32_t>(entries), c.take<uint64_t>(entries),
          c.take<uint64_t>(entries), c.take<int64_t>(splats + 1), c.next};
}

// Sums of the splat that a chunk begins with, where it began before, and of the one that it ends with,
// where it goes on: [chunks, C] each.
struct ChunkEnds {
  float *head, *tail;
  char* rest;
};

ChunkEnds carve_ends(void* memory, int64_t entries, int channels) {
  Carver c = {static_cast<char*>(memory)};
  return {c.take<float>(chunks_of(entries) * channels),
          c.take<float>(chunks_of(entries) * channels), c.next};
}

int bits_of(int64_t numbers) {
  int bits = 1;
  while (numbers >> bits) ++bits;
  return bits;
}

__device__ __forceinline__ int64_t this_item() {
  return int64_t(blockIdx.x) * THREADS + threadIdx.x;
}

__global__ void __launch_bounds__(THREADS)
    gather_rows_kernel(SparseParams p, const float* values, float* out) {
  const int64_t i = this_item() / p.channels;
  const int c = static_cast<int>(this_item() % p.channels);
  if (i >= p.row_count) return;
  const int64_t row = p.rows ? p.rows[i] : i;
  float sum = 0.0f;
  for (int64_t k = p.row_start[row]; k < p.row_start[row + 1]; ++k)
    sum = fused(p.weight[k], values[int64_t(p.splat[k]) * p.channels + c], sum);
  out[i * p.channels + c] = sum;
}

__global__ void __launch_bounds__(THREADS)
    expand_rows_kernel(SparseParams p, const int64_t* place, Unsorted t) {
  const int64_t i = this_item();
  if (i >= p.row_count) return;
  const int64_t row = p.rows ? p.rows[i] : i;
  int64_t at = place[i];
  for (int64_t k = p.row_start[row]; k < p.row_start[row + 1]; ++k, ++at) {
    t.keys[at] = static_cast<uint32_t>(p.splat[k]);
    t.places[at] = static_cast<uint64_t>(i) << 32 | static_cast<uint32_t>(k);
  }
}

// First place among the sorted keys that is not below n.
__global__ void __launch_bounds__(THREADS)
    starts_kernel(Unsorted t, int64_t entries, int64_t splats) {
  const int64_t n = this_item();
  if (n > splats) return;
  int64_t low = 0, high = entries;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (int64_t(t.sorted_keys[middle]) < n)
      low = middle + 1;
    else
      high = middle;
  }
  t.start[n] = low;
}

// WIDTH neighbouring channels.
template <int WIDTH>
struct Channels {
  float at[WIDTH];
};

template <int WIDTH>
__device__ __forceinline__ Channels<WIDTH> read_channels(const float* from) {
  Channels<WIDTH> r;
  if constexpr (WIDTH == 4) {
    const float4 v = __ldg(reinterpret_cast<const float4*>(from));
    r.at[0] = v.x, r.at[1] = v.y, r.at[2] = v.z, r.at[3] = v.w;
  } else {
    for (int k = 0; k < WIDTH; ++k) r.at[k] = __ldg(from + k);
  }
  return r;
}

template <int WIDTH>
__device__ __forceinline__ void write_channels(float* to, const Channels<WIDTH>& v) {
  if constexpr (WIDTH == 4)
    *reinterpret_cast<float4*>(to) = make_float4(v.at[0], v.at[1], v.at[2], v.at[3]);
  else
    for (int k = 0; k < WIDTH; ++k) to[k] = v.at[k];
}

template <int WIDTH>
__device__ __forceinline__ void add_scaled(float weight, const float* from,
                                           Channels<WIDTH>& sum) {
  const Channels<WIDTH> v = read_channels<WIDTH>(from);
#pragma unroll
  for (int k = 0; k < WIDTH; ++k) sum.at[k] = fused(weight, v.at[k], sum.at[k]);
}

// What an entry of a table by rows adds to channels c and up of its splat.
struct RowEntries {
  SparseParams p;
  const float* grad;
  template <int WIDTH>
  __device__ __forceinline__ void add(const EntryPlace& e, int c, Channels<WIDTH>& sum) const {
    add_scaled(__ldg(p.weight + e.entry), grad + int64_t(e.owner) * p.channels + c, sum);
  }
};

// Pixel j of a quad in the image, -1 outside.
__device__ __forceinline__ int64_t pixel_of(const QuadGrid& g, QuadPlace place, int j) {
  const int x = QUAD * place.x + j % QUAD, y = QUAD * place.y + j / QUAD;
  return x < g.width && y < g.height ? int64_t(y) * g.width + x : -1;
}

__global__ void __launch_bounds__(THREADS)
    gather_quads_kernel(QuadTable t, int channels, const float* values, float* out) {
  const int64_t quad = this_item() / channels;
  const int c = static_cast<int>(this_item() % channels);
  if (quad >= quad_count(t.grid)) return;
  float sums[QUAD_PIXELS] = {};
  for (int64_t k = t.start[quad]; k < t.start[quad + 1]; ++k) {
    const float value = values[int64_t(splat_of_row(t, t.row[k])) * channels + c];
#pragma unroll
    for (int j = 0; j < QUAD_PIXELS; ++j)
      sums[j] = fused(half_to_float(t.weight[QUAD_PIXELS * k + j]), value, sums[j]);
  }
  const QuadPlace place = quad_place(t.grid, quad);
#pragma unroll
  for (int j = 0; j < QUAD_PIXELS; ++j) {
    const int64_t pixel = pixel_of(t.grid, place, j);
    if (pixel >= 0) out[pixel * channels + c] = sums[j];
  }
}

// The same of a table by quads, whose entries' owners are the first pixels of their quads.
struct QuadEntries {
  const uint16_t* weight;
  int width;  // pixels of the image
  int64_t pixels;
  int channels;
  const float* grad;
  template <int WIDTH>
  __device__ __forceinline__ void add(const EntryPlace& e, int c, Channels<WIDTH>& sum) const {
    const uint2 four = __ldg(reinterpret_cast<const uint2*>(weight) + e.entry);
#pragma unroll
    for (int j = 0; j < QUAD_PIXELS; ++j) {
      const unsigned two = j < 2 ? four.x : four.y;
      const float w = half_to_float(static_cast<uint16_t>(two >> 16 * (j % 2)));
      const int64_t pixel = int64_t(e.owner) + j / QUAD * width + j % QUAD;
      // Not 0 * gradient, which is no number where that is none. Outside the image weights are 0.
      if (w > 0.0f && pixel < pixels) add_scaled(w, grad + pixel * channels + c, sum);
    }
  }
};

// The splat of the entry in place k; not before splat `from`.
__device__ __forceinline__ int64_t splat_at(const EntriesBySplat& by, int64_t k, int64_t from) {
  int64_t low = from, high = by.splats;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (by.start[middle] <= k)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// Splats that lie in one chunk are finished here.
template <int WIDTH, class Entries>
__global__ void __launch_bounds__(THREADS)
    sum_chunks_kernel(Entries from, EntriesBySplat by, int channels, ChunkEnds ends, float* out) {
  const int groups = channels / WIDTH;
  const int64_t chunk = this_item() / groups;
  const int c = static_cast<int>(this_item() % groups) * WIDTH;
  if (chunk >= chunks_of(by.entries)) return;
  const int64_t first = chunk * CHUNK;
  const int64_t end = first + CHUNK < by.entries ? first + CHUNK : by.entries;
  int64_t n = splat_at(by, first, 0);
  for (int64_t k = first;;) {
    const int64_t stop = by.start[n + 1], last = stop < end ? stop : end;
    Channels<WIDTH> sum = {};
    for (; k < last; ++k) from.add(by.place[k], c, sum);
    if (by.start[n] < first)
      write_channels(ends.head + chunk * channels + c, sum);
    else if (stop > end)
      write_channels(ends.tail + chunk * channels + c, sum);
    else
      write_channels(out + n * channels + c, sum);
    if (k >= end) break;
    // The next one, as a rule; further on where splats have no entry.
    n = by.start[n + 2] > k ? n + 1 : splat_at(by, k, n + 1);
  }
}

// The rest: splats in several chunks, and zeros for those in none.
__global__ void __launch_bounds__(THREADS)
    join_chunks_kernel(EntriesBySplat by, int channels, ChunkEnds ends, float* out) {
  const int64_t n = this_item() / channels;
  const int c = static_cast<int>(this_item() % channels);
  if (n >= by.splats) return;
  const int64_t start = by.start[n], stop = by.start[n + 1];
  const int64_t first = start / CHUNK, last = (stop - 1) / CHUNK;
  if (start < stop && first == last) return;  // the only chunk wrote it
  float sum = start < stop ? ends.tail[first * channels + c] : 0.0f;
  for (int64_t k = first + 1; start < stop && k <= last; ++k) sum += ends.head[k * channels + c];
  out[n * channels + c] = sum;
}

bool in_fours(const float* rows, int channels) {
  return channels % 4 == 0 && reinterpret_cast<uintptr_t>(rows) % sizeof(float4) == 0;
}

template <int WIDTH, class Entries>
void queue_chunks(const Entries& from, const EntriesBySplat& by, int channels,
                  const ChunkEnds& ends, float* out, void* stream) {
  const int64_t items = chunks_of(by.entries) * (channels / WIDTH);
  launch("sum_chunks", stream, blocks_for(items, THREADS), THREADS, 0,
         &sum_chunks_kernel<WIDTH, Entries>, from, by, channels, ends, out);
}

template <class Entries>
void sum_by_splat(const Entries& from, const EntriesBySplat& by, int channels, void* memory,
                  float* out, void* stream) {
  const ChunkEnds ends = carve_ends(memory, by.entries, channels);
  if (in_fours(from.grad, channels) && in_fours(out, channels))
    queue_chunks<4>(from, by, channels, ends, out, stream);
  else
    queue_chunks<1>(from, by, channels, ends, out, stream);
  launch("join_chunks", stream, blocks_for(by.splats * channels, THREADS), THREADS, 0,
         &join_chunks_kernel, by, channels, ends, out);
}

}  // namespace

size_t scatter_rows_bytes(int64_t entries, int64_t splats, int channels) {
  const Unsorted t = carve_unsorted(nullptr, entries, splats);
  const size_t sums = scatter_quads_bytes(entries, channels), temp = sort_bytes_wide(entries);
  return reinterpret_cast<size_t>(t.rest) + aligned(sums > temp ? sums : temp);
}

size_t scatter_quads_bytes(int64_t entries, int channels) {
  return reinterpret_cast<size_t>(carve_ends(nullptr, entries, channels).rest) + 1;
}

void gather_rows(const SparseParams& p, const float* values, float* out, void* stream) {
  launch("gather_rows", stream, blocks_for(p.row_count * p.channels, THREADS), THREADS, 0,
         &gather_rows_kernel, p, values, out);
}

void scatter_rows(const SparseParams& p, const int64_t* place, int64_t entries, const float* grad,
                  float* out, void* memory, void* stream) {
  const Unsorted t = carve_unsorted(memory, entries, p.splat_count);
  launch("expand_rows", stream, blocks_for(p.row_count, THREADS), THREADS, 0, &expand_rows_kernel,
         p, place, t);
  sort_pairs(t.rest, sort_bytes_wide(entries), t.keys, t.sorted_keys, t.places, t.sorted_places,
             entries, bits_of(p.splat_count), stream);
  launch("starts", stream, blocks_for(p.splat_count + 1, THREADS), THREADS, 0, &starts_kernel, t,
         entries, p.splat_count);
  const EntriesBySplat by = {t.start, reinterpret_cast<const EntryPlace*>(t.sorted_places),
                             p.splat_count, entries};
  sum_by_splat(RowEntries{p, grad}, by, p.channels, t.rest, out, stream);
}

void gather_quads(const QuadTable& t, int channels, const float* values, float* out, void* stream) {
  launch("gather_quads", stream, blocks_for(quad_count(t.grid) * channels, THREADS), THREADS, 0,
         &gather_quads_kernel, t, channels, values, out);
}

void scatter_quads(const QuadTable& t, const EntriesBySplat& by, int channels, const float* grad,
                   float* out, void* memory, void* stream) {
  const int64_t pixels = int64_t(t.grid.width) * t.grid.height;
  const QuadEntries from = {t.weight, t.grid.width, pixels, channels, grad};
  sum_by_splat(from, by, channels, memory, out, stream);
}

}  // namespace cuda
}  // namespace iqgs
