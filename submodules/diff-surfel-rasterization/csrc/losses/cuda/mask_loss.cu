// SPDX-License-Identifier: Apache-2.0
// The mask losses without a stored logit. A thread takes some pixels one after the other and a few
// queries at a time; their logits live in registers. Sums over pixels: over a thread's pixels, over
// its warp, over the block's warps in order, and over the blocks in order and in double precision.
#include "mask_loss.h"

#include "../../cuda/warp.h"

namespace iqgs {
namespace cuda {
namespace {

constexpr int THREADS = 128;
constexpr int WARPS = THREADS / WARP;
constexpr int LEAST_BLOCKS = 6, LEAST_BLOCKS_OF_SUMS = 5;  // that share a multiprocessor
constexpr int PIXELS = 8;                                  // of a thread
constexpr int SUM_QUERIES = 8;  // at a time: with four sums each, one of a warp's lanes for each
constexpr int CHANNELS = 16;    // at a time: one of half a warp's lanes for each
static_assert(SUM_QUERIES * MASK_SUMS == WARP && 2 * CHANNELS == WARP, "");

int blocks_of(const MaskLossParams& p) {
  return blocks_for(p.pixel_count, THREADS * PIXELS);
}

__device__ __forceinline__ int64_t pixel_of(int k) {
  return (int64_t(blockIdx.x) * PIXELS + k) * THREADS + threadIdx.x;
}

// Numbers of a row from channel c on, four at a time where the rows allow it; zero from `count` on.
__device__ __forceinline__ float4 four_of(const float* row, int c, int count, bool fours) {
  if (fours && c < count) return __ldg(reinterpret_cast<const float4*>(row + c));
  return make_float4(c < count ? __ldg(row + c) : 0.0f, c + 1 < count ? __ldg(row + c + 1) : 0.0f,
                     c + 2 < count ? __ldg(row + c + 2) : 0.0f,
                     c + 3 < count ? __ldg(row + c + 3) : 0.0f);
}

// Whether rows of `width` floats from `rows` on begin and end where four floats do.
__device__ __forceinline__ bool in_fours(const float* rows, int width) {
  return reinterpret_cast<uintptr_t>(rows) % sizeof(float4) == 0 && width % 4 == 0;
}

// CHANNELS numbers of a row in registers, from `begin` on, zero beyond the row.
struct Held {
  float at[CHANNELS];
};

__device__ __forceinline__ Held hold(const float* row, int begin, int count, bool fours) {
  Held r;
#pragma unroll
  for (int k = 0; k < CHANNELS; k += 4) {
    const float4 v = four_of(row, begin + k, count, fours);
    r.at[k] = v.x;
    r.at[k + 1] = v.y;
    r.at[k + 2] = v.z;
    r.at[k + 3] = v.w;
  }
  return r;
}

// Reads rows of features and queries, knowing whether both lie in fours.
struct Reader {
  const MaskLossParams& p;
  bool fours;
  __device__ __forceinline__ explicit Reader(const MaskLossParams& params)
      : p(params),
        fours(in_fours(params.features, params.channels) &&
              in_fours(params.queries, params.query_stride)) {}
  __device__ __forceinline__ Held features(int64_t pixel, int begin) const {
    return hold(p.features + pixel * p.channels, begin, p.channels, fours);
  }
  __device__ __forceinline__ Held query(int m, int begin) const {
    return hold(p.queries + int64_t(m) * p.query_stride, begin, p.channels, fours);
  }
};

__device__ __forceinline__ float dot(const Held& a, const Held& b) {
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < CHANNELS; ++k) sum = fused(a.at[k], b.at[k], sum);
  return sum;
}

// What the channels but those from `begin` on, which are held, add to a logit.
__device__ __forceinline__ float rest_of_logit(const MaskLossParams& p, int m, int64_t pixel,
                                               int begin) {
  const float* query = p.queries + int64_t(m) * p.query_stride;
  const float* feature = p.features + pixel * p.channels;
  float sum = 0.0f;
  for (int c = 0; c < p.channels; ++c)
    if (c < begin || c >= begin + CHANNELS) sum = fused(__ldg(query + c), feature[c], sum);
  return sum;
}

// Adds what one pixel gives to the sums of one query.
template <Focus F>
__device__ __forceinline__ void add_terms(const MaskLossParams& p, float logit, bool own,
                                          float* sums) {
  const float x = own ? -logit : logit;
  const WrongAnswer<float> a = wrong_answer(x, unlikeliness(x));
  const float balance = p.alpha < 0.0f ? 1.0f : own ? p.alpha : 1.0f - p.alpha;
  sums[LOSS_SUM] = fused(balance, focal_term<F>(a, x, p.gamma), sums[LOSS_SUM]);
  sums[WRONG_SUM] += a.chance;
  if (!own) return;
  sums[OWN_WRONG_SUM] += a.chance;
  sums[AREA_SUM] += 1.0f;
}

// The sum of the block's warps for each of the 32 values that lanes hold; warp 0 returns it.
__device__ __forceinline__ float sum_of_warps(float value, float* shared) {
  shared[threadIdx.x] = value;
  __syncthreads();
  float sum = 0.0f;
  for (int w = 0; w < WARPS; ++w) sum += shared[w * WARP + lane_index()];
  __syncthreads();
  return sum;
}

// partial [blocks, M, MASK_SUMS].
template <Focus F>
__global__ void __launch_bounds__(THREADS, LEAST_BLOCKS_OF_SUMS)
    mask_sums_kernel(MaskLossParams p, float* partial) {
  IQGS_DYNAMIC_SHARED(float, shared);
  const Reader read(p);
  for (int first = 0; first < p.query_count; first += SUM_QUERIES) {
    float sums[SUM_QUERIES * MASK_SUMS] = {};
    for (int k = 0; k < PIXELS; ++k) {
      const int64_t pixel = pixel_of(k);
      if (pixel >= p.pixel_count) break;
      const Held features = read.features(pixel, 0);
      const int owner = p.owner[pixel] - first;
#pragma unroll
      for (int q = 0; q < SUM_QUERIES; ++q) {
        const int m = min(first + q, p.query_count - 1);
        float logit = dot(features, read.query(m, 0));
        if (p.channels > CHANNELS) logit += rest_of_logit(p, m, pixel, 0);
        add_terms<F>(p, logit, owner == q, sums + MASK_SUMS * q);
      }
    }
    transpose_sum(sums);
    const float total = sum_of_warps(sums[0], shared);
    const int m = first + lane_index() / MASK_SUMS;
    if (warp_index() == 0 && m < p.query_count)
      partial[(int64_t(blockIdx.x) * p.query_count + m) * MASK_SUMS + lane_index() % MASK_SUMS] =
          total;
  }
}

__global__ void __launch_bounds__(THREADS)
    mask_finish_kernel(MaskLossParams p, const float* partial, int blocks, float* focal,
                       float* dice, MaskOverlap* overlap) {
  const int m = static_cast<int>(blockIdx.x) * THREADS + static_cast<int>(threadIdx.x);
  if (m >= p.query_count) return;
  double sums[MASK_SUMS] = {};
  for (int b = 0; b < blocks; ++b)
    for (int k = 0; k < MASK_SUMS; ++k)
      sums[k] += partial[(int64_t(b) * p.query_count + m) * MASK_SUMS + k];
  overlap[m] = mask_overlap(sums);
  focal[m] = mean_focal(p, sums);
  dice[m] = mask_dice(sums);
}

__global__ void __launch_bounds__(THREADS)
    mask_slopes_kernel(MaskLossParams p, const MaskOverlap* overlap, const float* grad_focal,
                       const float* grad_dice, MaskSlopes* slopes) {
  const int m = static_cast<int>(blockIdx.x) * THREADS + static_cast<int>(threadIdx.x);
  if (m < p.query_count) slopes[m] = mask_slopes(p, overlap[m], grad_focal[m], grad_dice[m]);
}

// dL/dlogit of query m at a pixel.
template <Focus F>
__device__ __forceinline__ float logit_grad(const MaskLossParams& p, const MaskSlopes& s,
                                            float logit, bool own) {
  const float x = own ? -logit : logit;
  const WrongAnswer<float> a = wrong_answer(x, unlikeliness(x));
  return fused(own ? s.on_focal : s.off_focal, focal_slope<F>(a, x, p.gamma),
               (own ? s.on_chance : s.off_chance) * a.product);
}

// grad [P, D], a thread a pixel, sixteen channels at a time.
template <Focus F>
__global__ void __launch_bounds__(THREADS, LEAST_BLOCKS)
    mask_feature_kernel(MaskLossParams p, const MaskSlopes* slopes, float* grad) {
  const int64_t pixel = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (pixel >= p.pixel_count) return;
  const Reader read(p);
  const int owner = p.owner[pixel];
  for (int begin = 0; begin < p.channels; begin += CHANNELS) {
    const Held features = read.features(pixel, begin);
    float sums[CHANNELS] = {};
    for (int m = 0; m < p.query_count; ++m) {
      const Held query = read.query(m, begin);
      float logit = dot(features, query);
      if (p.channels > CHANNELS) logit += rest_of_logit(p, m, pixel, begin);
      const float g = logit_grad<F>(p, slopes[m], logit, owner == m);
#pragma unroll
      for (int c = 0; c < CHANNELS; ++c) sums[c] = fused(g, query.at[c], sums[c]);
    }
#pragma unroll
    for (int c = 0; c < CHANNELS; ++c)
      if (begin + c < p.channels) grad[pixel * p.channels + begin + c] = sums[c];
  }
}

// partial [blocks, M, D].
template <Focus F>
__global__ void __launch_bounds__(THREADS, LEAST_BLOCKS)
    mask_query_kernel(MaskLossParams p, const MaskSlopes* slopes, float* partial) {
  IQGS_DYNAMIC_SHARED(float, shared);
  const Reader read(p);
  for (int m = 0; m < p.query_count; ++m)
    for (int begin = 0; begin < p.channels; begin += CHANNELS) {
      const Held query = read.query(m, begin);

      float sums[CHANNELS] = {};
      for (int k = 0; k < PIXELS; ++k) {
        const int64_t pixel = pixel_of(k);
        if (pixel >= p.pixel_count) break;
        const Held features = read.features(pixel, begin);
        float logit = dot(features, query);
        if (p.channels > CHANNELS) logit += rest_of_logit(p, m, pixel, begin);
        const float g = logit_grad<F>(p, slopes[m], logit, p.owner[pixel] == m);
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c) sums[c] = fused(g, features.at[c], sums[c]);
      }
      transpose_sum(sums);  // over half a warp
      sums[0] += __shfl_xor_sync(EVERY_LANE, sums[0], CHANNELS);
      const float total = sum_of_warps(sums[0], shared);
      const int c = begin + lane_index();
      if (threadIdx.x < CHANNELS && c < p.channels)
        partial[(int64_t(blockIdx.x) * p.query_count + m) * p.channels + c] = total;
    }
}

// out [count] = sum over blocks of partial [blocks, count], in double precision.
__global__ void __launch_bounds__(THREADS)
    sum_blocks_kernel(const float* partial, int blocks, int64_t count, float* out) {
  const int64_t i = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (i >= count) return;
  double sum = 0.0;
  for (int b = 0; b < blocks; ++b) sum += partial[b * count + i];
  out[i] = static_cast<float>(sum);
}

template <Focus F>
void queue_losses(const MaskLossParams& p, float* partial, void* stream) {
  launch("mask_sums", stream, blocks_of(p), THREADS, sizeof(float) * THREADS, &mask_sums_kernel<F>,
         p, partial);
}

template <Focus F>
void queue_grads(const MaskLossParams& p, const MaskSlopes* slopes, float* partial,
                 float* grad_queries, float* grad_features, void* stream) {
  if (grad_features)
    launch("mask_features", stream, blocks_for(p.pixel_count, THREADS), THREADS, 0,
           &mask_feature_kernel<F>, p, slopes, grad_features);
  if (!grad_queries) return;
  const int64_t count = int64_t(p.query_count) * p.channels;
  launch("mask_queries", stream, blocks_of(p), THREADS, sizeof(float) * THREADS,
         &mask_query_kernel<F>, p, slopes, partial);
  launch("sum_blocks", stream, blocks_for(count, THREADS), THREADS, 0, &sum_blocks_kernel, partial,
         blocks_of(p), count, grad_queries);
}

size_t aligned(size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

}  // namespace

size_t mask_loss_bytes(const MaskLossParams& p) {
  const size_t wide = p.channels > MASK_SUMS ? p.channels : MASK_SUMS;
  return aligned(sizeof(MaskSlopes) * p.query_count) +
         sizeof(float) * blocks_of(p) * p.query_count * wide + 1;
}

void mask_losses(const MaskLossParams& p, float* focal, float* dice, MaskOverlap* overlap,
                 void* memory, void* stream) {
  float* partial = static_cast<float*>(memory);
  switch (focus_of(p.gamma)) {
    case Focus::FLAT:
      queue_losses<Focus::FLAT>(p, partial, stream);
      break;
    case Focus::SQUARE:
      queue_losses<Focus::SQUARE>(p, partial, stream);
      break;
    case Focus::ANY:
      queue_losses<Focus::ANY>(p, partial, stream);
      break;
  }
  launch("mask_finish", stream, blocks_for(p.query_count, THREADS), THREADS, 0, &mask_finish_kernel,
         p, partial, blocks_of(p), focal, dice, overlap);
}

void mask_loss_grads(const MaskLossParams& p, const MaskOverlap* overlap, const float* grad_focal,
                     const float* grad_dice, float* grad_queries, float* grad_features,
                     void* memory, void* stream) {
  MaskSlopes* slopes = static_cast<MaskSlopes*>(memory);
  float* partial = reinterpret_cast<float*>(static_cast<char*>(memory) +
                                            aligned(sizeof(MaskSlopes) * p.query_count));
  launch("mask_slopes", stream, blocks_for(p.query_count, THREADS), THREADS, 0, &mask_slopes_kernel,
         p, overlap, grad_focal, grad_dice, slopes);
  switch (focus_of(p.gamma)) {
    case Focus::FLAT:
      return queue_grads<Focus::FLAT>(p, slopes, partial, grad_queries, grad_features, stream);
    case Focus::SQUARE:
      return queue_grads<Focus::SQUARE>(p, slopes, partial, grad_queries, grad_features, stream);
    case Focus::ANY:
      return queue_grads<Focus::ANY>(p, slopes, partial, grad_queries, grad_features, stream);
  }
}

}  // namespace cuda
}  // namespace iqgs
