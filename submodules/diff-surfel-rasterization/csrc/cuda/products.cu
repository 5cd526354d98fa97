// SPDX-License-Identifier: Apache-2.0
// Products with stored weights: forward a thread adds one channel of a pixel, or of a quad's four.
// Backward the entries are sorted by splat and cut into chunks of one length, whatever splat they
// belong to; a thread adds one channel of a chunk. Sums of splats that lie in several chunks are
// put together in their order. No atomics: the same bits on every run.
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

// Entries by splat. `owner` is the chosen row or the quad of an entry, `entry` its weight's place.
struct Transpose {
  uint32_t *keys, *sorted_keys, *index, *sorted_index;
  int64_t* entry;
  int32_t* owner;
  int64_t* start;  // [N + 1] first place of each splat among the sorted
  // [chunks, C] sums of the splat that a chunk begins with, where it began before, and of the one
  // that it ends with, where it goes on.
  float *head, *tail;
  char* temp;
};

Transpose carve_transpose(void* memory, int64_t entries, int64_t splats, int channels) {
  char* next = static_cast<char*>(memory);
  const auto take = [&](size_t item, int64_t count) {
    char* r = next;
    next += aligned(item * static_cast<size_t>(count));
    return r;
  };
  Transpose t;
  t.keys = reinterpret_cast<uint32_t*>(take(4, entries));
  t.sorted_keys = reinterpret_cast<uint32_t*>(take(4, entries));
  t.index = reinterpret_cast<uint32_t*>(take(4, entries));
  t.sorted_index = reinterpret_cast<uint32_t*>(take(4, entries));
  t.entry = reinterpret_cast<int64_t*>(take(8, entries));
  t.owner = reinterpret_cast<int32_t*>(take(4, entries));
  t.start = reinterpret_cast<int64_t*>(take(8, splats + 1));
  t.head = reinterpret_cast<float*>(take(4, chunks_of(entries) * channels));
  t.tail = reinterpret_cast<float*>(take(4, chunks_of(entries) * channels));
  t.temp = next;
  return t;
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
    expand_rows_kernel(SparseParams p, const int64_t* place, Transpose t) {
  const int64_t i = this_item();
  if (i >= p.row_count) return;
  const int64_t row = p.rows ? p.rows[i] : i;
  int64_t at = place[i];
  for (int64_t k = p.row_start[row]; k < p.row_start[row + 1]; ++k, ++at) {
    t.keys[at] = static_cast<uint32_t>(p.splat[k]);
    t.index[at] = static_cast<uint32_t>(at);
    t.entry[at] = k;
    t.owner[at] = static_cast<int32_t>(i);
  }
}

__global__ void __launch_bounds__(THREADS) expand_quads_kernel(QuadTable q, Transpose t) {
  const int64_t i = this_item();
  if (i >= quad_count(q.grid)) return;
  for (int64_t k = q.start[i]; k < q.start[i + 1]; ++k) {
    t.keys[k] = static_cast<uint32_t>(splat_of_row(q, q.row[k]));
    t.index[k] = static_cast<uint32_t>(k);
    t.owner[k] = static_cast<int32_t>(i);
  }
}

// First place among the sorted keys that is not below n.
__global__ void __launch_bounds__(THREADS)
    starts_kernel(Transpose t, int64_t entries, int64_t splats) {
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

// What an entry of a table by rows adds to channel c of its splat.
struct RowEntries {
  SparseParams p;
  const float* grad;
  __device__ __forceinline__ float add(const Transpose& t, uint32_t at, int c, float sum) const {
    return fused(p.weight[t.entry[at]], grad[int64_t(t.owner[at]) * p.channels + c], sum);
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

// The same of a table by quads.
struct QuadEntries {
  QuadTable q;
  int channels;
  const float* grad;
  __device__ __forceinline__ float add(const Transpose& t, uint32_t at, int c, float sum) const {
    const QuadPlace place = quad_place(q.grid, t.owner[at]);
#pragma unroll
    for (int j = 0; j < QUAD_PIXELS; ++j) {
      const int64_t pixel = pixel_of(q.grid, place, j);
      if (pixel < 0) continue;
      const float weight = half_to_float(q.weight[int64_t(QUAD_PIXELS) * at + j]);
      // Not 0 * gradient, which is no number where that is none.
      if (weight > 0.0f) sum = fused(weight, grad[pixel * channels + c], sum);
    }
    return sum;
  }
};

// Splats that lie in one chunk are finished here.
template <class Entries>
__global__ void __launch_bounds__(THREADS)
    sum_chunks_kernel(Entries from, Transpose t, int64_t entries, int channels, float* out) {
  const int64_t chunk = this_item() / channels;
  const int c = static_cast<int>(this_item() % channels);
  if (chunk >= chunks_of(entries)) return;
  const int64_t first = chunk * CHUNK;
  const int64_t end = first + CHUNK < entries ? first + CHUNK : entries;
  for (int64_t k = first; k < end;) {
    const int64_t n = t.sorted_keys[k], stop = t.start[n + 1];
    const int64_t last = stop < end ? stop : end;
    float sum = 0.0f;
    for (; k < last; ++k) sum = from.add(t, t.sorted_index[k], c, sum);
    if (t.start[n] < first)
      t.head[chunk * channels + c] = sum;
    else if (stop > end)
      t.tail[chunk * channels + c] = sum;
    else
      out[n * channels + c] = sum;
  }
}

// The rest: splats in several chunks, and zeros for those in none.
__global__ void __launch_bounds__(THREADS)
    join_chunks_kernel(Transpose t, int64_t splats, int channels, float* out) {
  const int64_t n = this_item() / channels;
  const int c = static_cast<int>(this_item() % channels);
  if (n >= splats) return;
  const int64_t start = t.start[n], stop = t.start[n + 1];
  const int64_t first = start / CHUNK, last = (stop - 1) / CHUNK;
  if (start < stop && first == last) return;  // the only chunk wrote it
  float sum = start < stop ? t.tail[first * channels + c] : 0.0f;
  for (int64_t k = first + 1; start < stop && k <= last; ++k) sum += t.head[k * channels + c];
  out[n * channels + c] = sum;
}

// Sorts the expanded entries by splat, in their order within each, and sums them.
template <class Entries>
void sum_by_splat(const Entries& from, const Transpose& t, int64_t entries, int64_t splats,
                  int channels, float* out, void* stream) {
  sort_pairs(t.temp, sort_bytes(entries), t.keys, t.sorted_keys, t.index, t.sorted_index, entries,
             bits_of(splats), stream);
  launch("starts", stream, blocks_for(splats + 1, THREADS), THREADS, 0, &starts_kernel, t, entries,
         splats);
  launch("sum_chunks", stream, blocks_for(chunks_of(entries) * channels, THREADS), THREADS, 0,
         &sum_chunks_kernel<Entries>, from, t, entries, channels, out);
  launch("join_chunks", stream, blocks_for(splats * channels, THREADS), THREADS, 0,
         &join_chunks_kernel, t, splats, channels, out);
}

}  // namespace

size_t transpose_bytes(int64_t entries, int64_t splats, int channels) {
  const Transpose end = carve_transpose(nullptr, entries, splats, channels);
  return reinterpret_cast<size_t>(end.temp) + aligned(sort_bytes(entries));
}

void gather_rows(const SparseParams& p, const float* values, float* out, void* stream) {
  launch("gather_rows", stream, blocks_for(p.row_count * p.channels, THREADS), THREADS, 0,
         &gather_rows_kernel, p, values, out);
}

void scatter_rows(const SparseParams& p, const int64_t* place, int64_t entries, const float* grad,
                  float* out, void* memory, void* stream) {
  const Transpose t = carve_transpose(memory, entries, p.splat_count, p.channels);
  launch("expand_rows", stream, blocks_for(p.row_count, THREADS), THREADS, 0, &expand_rows_kernel,
         p, place, t);
  sum_by_splat(RowEntries{p, grad}, t, entries, p.splat_count, p.channels, out, stream);
}

void gather_quads(const QuadTable& t, int channels, const float* values, float* out, void* stream) {
  launch("gather_quads", stream, blocks_for(quad_count(t.grid) * channels, THREADS), THREADS, 0,
         &gather_quads_kernel, t, channels, values, out);
}

void scatter_quads(const QuadTable& t, int64_t entries, int channels, const float* grad, float* out,
                   void* memory, void* stream) {
  const Transpose transpose = carve_transpose(memory, entries, t.splat_count, channels);
  launch("expand_quads", stream, blocks_for(quad_count(t.grid), THREADS), THREADS, 0,
         &expand_quads_kernel, t, transpose);
  const QuadEntries from = {t, channels, grad};
  sum_by_splat(from, transpose, entries, t.splat_count, channels, out, stream);
}

}  // namespace cuda
}  // namespace iqgs
