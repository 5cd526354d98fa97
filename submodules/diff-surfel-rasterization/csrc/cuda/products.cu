// SPDX-License-Identifier: Apache-2.0
// Products with stored weights: forward a thread adds one channel of a pixel, or of a quad's four;
// backward the entries are sorted by splat and a thread adds one channel of a splat in that order.
// No atomics: the same bits on every run.
#include "products.h"

#include "device_algorithms.h"
#include "launch.h"

namespace iqgs {
namespace cuda {
namespace {

constexpr int THREADS = 256;

size_t aligned(size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

// Entries by splat. `owner` is the chosen row or the quad of an entry, `entry` its weight's place.
struct Transpose {
  uint32_t *keys, *sorted_keys, *index, *sorted_index;
  int64_t* entry;
  int32_t* owner;
  int64_t* start;  // [N + 1] first place of each splat among the sorted
  char* temp;
};

Transpose carve_transpose(void* memory, int64_t entries, int64_t splats) {
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

__global__ void __launch_bounds__(THREADS)
    scatter_rows_kernel(SparseParams p, Transpose t, const float* grad, float* out) {
  const int64_t n = this_item() / p.channels;
  const int c = static_cast<int>(this_item() % p.channels);
  if (n >= p.splat_count) return;
  float sum = 0.0f;
  for (int64_t k = t.start[n]; k < t.start[n + 1]; ++k) {
    const uint32_t at = t.sorted_index[k];
    sum = fused(p.weight[t.entry[at]], grad[int64_t(t.owner[at]) * p.channels + c], sum);
  }
  out[n * p.channels + c] = sum;
}

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

__global__ void __launch_bounds__(THREADS)
    scatter_quads_kernel(QuadTable q, Transpose t, int channels, const float* grad, float* out) {
  const int64_t n = this_item() / channels;
  const int c = static_cast<int>(this_item() % channels);
  if (n >= q.splat_count) return;
  float sum = 0.0f;
  for (int64_t k = t.start[n]; k < t.start[n + 1]; ++k) {
    const int64_t at = t.sorted_index[k];
    const QuadPlace place = quad_place(q.grid, t.owner[at]);
#pragma unroll
    for (int j = 0; j < QUAD_PIXELS; ++j) {
      const int64_t pixel = pixel_of(q.grid, place, j);
      if (pixel >= 0)
        sum = fused(half_to_float(q.weight[QUAD_PIXELS * at + j]), grad[pixel * channels + c], sum);
    }
  }
  out[n * channels + c] = sum;
}

// Sorts the expanded entries by splat, in their order within each.
void sort_transpose(const Transpose& t, int64_t entries, int64_t splats, void* stream) {
  sort_pairs(t.temp, sort_bytes(entries), t.keys, t.sorted_keys, t.index, t.sorted_index, entries,
             bits_of(splats), stream);
  launch("starts", stream, blocks_for(splats + 1, THREADS), THREADS, 0, &starts_kernel, t, entries,
         splats);
}

}  // namespace

size_t transpose_bytes(int64_t entries, int64_t splats) {
  const Transpose end = carve_transpose(nullptr, entries, splats);
  return reinterpret_cast<size_t>(end.temp) + aligned(sort_bytes(entries));
}

void gather_rows(const SparseParams& p, const float* values, float* out, void* stream) {
  launch("gather_rows", stream, blocks_for(p.row_count * p.channels, THREADS), THREADS, 0,
         &gather_rows_kernel, p, values, out);
}

void scatter_rows(const SparseParams& p, const int64_t* place, int64_t entries, const float* grad,
                  float* out, void* memory, void* stream) {
  const Transpose t = carve_transpose(memory, entries, p.splat_count);
  launch("expand_rows", stream, blocks_for(p.row_count, THREADS), THREADS, 0, &expand_rows_kernel,
         p, place, t);
  sort_transpose(t, entries, p.splat_count, stream);
  launch("scatter_rows", stream, blocks_for(p.splat_count * p.channels, THREADS), THREADS, 0,
         &scatter_rows_kernel, p, t, grad, out);
}

void gather_quads(const QuadTable& t, int channels, const float* values, float* out, void* stream) {
  launch("gather_quads", stream, blocks_for(quad_count(t.grid) * channels, THREADS), THREADS, 0,
         &gather_quads_kernel, t, channels, values, out);
}

void scatter_quads(const QuadTable& t, int64_t entries, int channels, const float* grad, float* out,
                   void* memory, void* stream) {
  const Transpose transpose = carve_transpose(memory, entries, t.splat_count);
  launch("expand_quads", stream, blocks_for(quad_count(t.grid), THREADS), THREADS, 0,
         &expand_quads_kernel, t, transpose);
  sort_transpose(transpose, entries, t.splat_count, stream);
  launch("scatter_quads", stream, blocks_for(t.splat_count * channels, THREADS), THREADS, 0,
         &scatter_quads_kernel, t, transpose, channels, grad, out);
}

}  // namespace cuda
}  // namespace iqgs
