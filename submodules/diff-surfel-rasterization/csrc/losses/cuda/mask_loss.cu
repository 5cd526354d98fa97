// SPDX-License-Identifier: Apache-2.0
// The mask losses without a stored logit. A thread takes some pixels one after the other and a few
// queries at a time; their logits live in registers. Sums over pixels: over a thread's pixels, over
// its warp, over the block's warps in order, and over the blocks in order and in double precision.
// Backward a logit is made once for both gradients: the pixel's lane adds its share to the pixel's
// features, and passes the logit's gradient on through shared memory, where the warp's lanes add up
// the queries' numbers, four of one query each.
#include "mask_loss.h"

#include "../../cuda/warp.h"

namespace iqgs {
namespace cuda {
namespace {

constexpr int THREADS = 128;
constexpr int WARPS = THREADS / WARP;
constexpr int LEAST_BLOCKS = 5, LEAST_BLOCKS_OF_GRADS = 4;  // that share a multiprocessor
constexpr int PIXELS = 8;        // of a thread
constexpr int SUM_QUERIES = 8;   // at a time: with four sums each, one of a warp's lanes for each
constexpr int CHANNELS = 16;     // at a time
static_assert(SUM_QUERIES * MASK_SUMS == WARP, "a lane a sum");

// Of the gradients.
constexpr int GRAD_QUERIES = 8;  // at a time: with four lanes each, four channels a lane
constexpr int TILES = 2;         // pixels of a thread at a time, each one of a warp's tile of 32
constexpr int ROUNDS = PIXELS / TILES;
static_assert(GRAD_QUERIES * CHANNELS == 4 * WARP && GRAD_QUERIES * CHANNELS == THREADS &&
                  PIXELS % TILES == 0,
              "a lane sums four numbers, a thread finishes one");
constexpr int FEATURE_STRIDE = CHANNELS + 4;  // floats: eight lanes that read fours use all banks
constexpr int LOGIT_STRIDE = WARP + 4;
constexpr int SUMMERS = 8;  // warps that share the blocks' sums

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
__global__ void __launch_bounds__(THREADS, LEAST_BLOCKS)
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

// Shared memory of the gradients: of each warp the features of its pixels and the gradients of some
// queries' logits; and the warps' sums of these queries, of this turn and of the one before.
struct GradMemory {
  float* features;  // [TILES, WARP, FEATURE_STRIDE]
  float* logits;    // [GRAD_QUERIES, LOGIT_STRIDE]
  float* sums;      // [2, WARPS, GRAD_QUERIES, CHANNELS]
};

constexpr int GRAD_FLOATS_OF_WARP = TILES * WARP * FEATURE_STRIDE + GRAD_QUERIES * LOGIT_STRIDE;
constexpr int GRAD_FLOATS = WARPS * GRAD_FLOATS_OF_WARP + 2 * WARPS * GRAD_QUERIES * CHANNELS;

__device__ __forceinline__ GradMemory carve_grads(float* memory) {
  float* own = memory + warp_index() * GRAD_FLOATS_OF_WARP;
  return {own, own + TILES * WARP * FEATURE_STRIDE, memory + WARPS * GRAD_FLOATS_OF_WARP};
}

__device__ __forceinline__ void store(const Held& v, float* to) {
#pragma unroll
  for (int k = 0; k < CHANNELS; k += 4)
    *reinterpret_cast<float4*>(to + k) = make_float4(v.at[k], v.at[k + 1], v.at[k + 2], v.at[k + 3]);
}

__device__ __forceinline__ Held recall(const float* from) {
  Held r;
#pragma unroll
  for (int k = 0; k < CHANNELS; k += 4) {
    const float4 v = *reinterpret_cast<const float4*>(from + k);
    r.at[k] = v.x, r.at[k + 1] = v.y, r.at[k + 2] = v.z, r.at[k + 3] = v.w;
  }
  return r;
}

__device__ __forceinline__ float4 fused_four(float a, const float4& b, const float4& c) {
  return make_float4(fused(a, b.x, c.x), fused(a, b.y, c.y), fused(a, b.z, c.z),
                     fused(a, b.w, c.w));
}

// The gradients of `count` queries' logits at this lane's pixel: into `logits`, and times the queries
// into `sums`. Pixels that there are not have none.
template <Focus F>
__device__ __forceinline__ void logit_grads(const Reader& read, const MaskSlopes* slopes,
                                            const Held& features, int64_t pixel, int owner,
                                            int first, int count, int begin, float* logits,
                                            float (&sums)[CHANNELS]) {
  const MaskLossParams& p = read.p;
#pragma unroll 2
  for (int q = 0; q < GRAD_QUERIES; ++q) {
    float g = 0.0f;
    if (q < count && pixel < p.pixel_count) {
      const int m = first + q;
      const Held query = read.query(m, begin);
      float logit = dot(features, query);
      if (p.channels > CHANNELS) logit += rest_of_logit(p, m, pixel, begin);
      g = logit_grad<F>(p, slopes[m], logit, owner == m);
#pragma unroll
      for (int c = 0; c < CHANNELS; ++c) sums[c] = fused(g, query.at[c], sums[c]);
    }
    logits[q * LOGIT_STRIDE + lane_index()] = g;
  }
}

// Adds, over the warp's 32 pixels, gradients of this lane's query times this lane's four features.
__device__ __forceinline__ float4 add_queries(const float* logits, const float* features,
                                              float4 sum) {
  const float* own = logits + lane_index() / 4 * LOGIT_STRIDE;
  features += lane_index() % 4 * 4;
#pragma unroll 2
  for (int k = 0; k < WARP; k += 4, features += 4 * FEATURE_STRIDE) {
    const float4 g = *reinterpret_cast<const float4*>(own + k);
    const float4* f = reinterpret_cast<const float4*>(features);
    constexpr int ROW = FEATURE_STRIDE / 4;
    sum = fused_four(g.x, f[0], sum);
    sum = fused_four(g.y, f[ROW], sum);
    sum = fused_four(g.z, f[2 * ROW], sum);
    sum = fused_four(g.w, f[3 * ROW], sum);
  }
  return sum;
}

// Adds the warps in order to the block's sums [M, D] of the queries from `first` on.
__device__ __forceinline__ void finish_queries(const MaskLossParams& p, float* shared,
                                               const float4& sum, int first, int begin, bool more,
                                               float* partial) {
  reinterpret_cast<float4*>(shared)[threadIdx.x] = sum;
  __syncthreads();
  const int i = static_cast<int>(threadIdx.x), m = first + i / CHANNELS, c = begin + i % CHANNELS;
  if (m >= p.query_count || c >= p.channels) return;
  float* const out = partial + (int64_t(blockIdx.x) * p.query_count + m) * p.channels + c;
  float total = more ? *out : 0.0f;
  for (int w = 0; w < WARPS; ++w) total += shared[w * GRAD_QUERIES * CHANNELS + i];
  *out = total;
}

// grad [P, D] and partial [blocks, M, D], null where not wanted. Sixteen channels at a time: a logit of
// more channels is made again for each sixteen.
template <Focus F>
__global__ void __launch_bounds__(THREADS, LEAST_BLOCKS_OF_GRADS)
    mask_grad_kernel(MaskLossParams p, const MaskSlopes* slopes, float* partial, float* grad) {
  IQGS_DYNAMIC_SHARED(float, shared);
  const GradMemory memory = carve_grads(shared);
  const Reader read(p);
  for (int begin = 0; begin < p.channels; begin += CHANNELS)
    for (int round = 0; round < ROUNDS; ++round) {
      int owner[TILES];
      float sums[TILES][CHANNELS] = {};
#pragma unroll
      for (int t = 0; t < TILES; ++t) {
        const int64_t pixel = pixel_of(round * TILES + t);
        Held own = {};
        owner[t] = -1;
        if (pixel < p.pixel_count) {
          own = read.features(pixel, begin);
          owner[t] = p.owner[pixel];
        }
        store(own, memory.features + (t * WARP + lane_index()) * FEATURE_STRIDE);
      }
      int turn = 0;
      for (int first = 0; first < p.query_count; first += GRAD_QUERIES, turn ^= 1) {
        const int count = min(GRAD_QUERIES, p.query_count - first);
        float4 of_queries = four_zeros();
#pragma unroll
        for (int t = 0; t < TILES; ++t) {
          float* const features = memory.features + t * WARP * FEATURE_STRIDE;
          logit_grads<F>(read, slopes, recall(features + lane_index() * FEATURE_STRIDE),
                         pixel_of(round * TILES + t), owner[t], first, count, begin, memory.logits,
                         sums[t]);
          __syncwarp();
          if (partial) of_queries = add_queries(memory.logits, features, of_queries);
          __syncwarp();
        }
        if (partial)
          finish_queries(p, memory.sums + turn * WARPS * GRAD_QUERIES * CHANNELS, of_queries, first,
                         begin, round > 0, partial);
      }
      if (partial) __syncthreads();  // the next round begins with the first turn again
      if (!grad) continue;
#pragma unroll
      for (int t = 0; t < TILES; ++t) {
        const int64_t pixel = pixel_of(round * TILES + t);
        if (pixel >= p.pixel_count) continue;
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c)
          if (begin + c < p.channels) grad[pixel * p.channels + begin + c] = sums[t][c];
      }
    }
}

// out [count] = sum over blocks of partial [blocks, count], in double precision: a warp's lanes take
// neighbouring numbers, the warps every eighth block, and then the warps are added in order.
__global__ void __launch_bounds__(SUMMERS * WARP)
    sum_blocks_kernel(const float* partial, int blocks, int64_t count, float* out) {
  __shared__ double shared[SUMMERS][WARP];
  const int64_t i = int64_t(blockIdx.x) * WARP + lane_index();
  double sum = 0.0;
  for (int b = warp_index(); b < blocks && i < count; b += SUMMERS) sum += partial[b * count + i];
  shared[warp_index()][lane_index()] = sum;
  __syncthreads();
  if (warp_index() > 0 || i >= count) return;
  for (int w = 1; w < SUMMERS; ++w) sum += shared[w][lane_index()];
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
  if (!grad_queries && !grad_features) return;
  launch("mask_grads", stream, blocks_of(p), THREADS, sizeof(float) * GRAD_FLOATS,
         &mask_grad_kernel<F>, p, slopes, grad_queries ? partial : nullptr, grad_features);
  if (!grad_queries) return;
  const int64_t count = int64_t(p.query_count) * p.channels;
  launch("sum_blocks", stream, blocks_for(count, WARP), SUMMERS * WARP, 0, &sum_blocks_kernel,
         partial, blocks_of(p), count, grad_queries);
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
