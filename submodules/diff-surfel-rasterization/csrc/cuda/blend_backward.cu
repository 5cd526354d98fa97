// SPDX-License-Identifier: Apache-2.0
// Gradients of images to gradients of pairs, back to front. A lane is a pixel with one scalar of
// state, the light that is still behind. Each half of a warp sums a splat's gradient over its
// pixels, the block adds them in order and writes the pair's own row: no atomics, the same bits on
// every run.
#include "tile.h"

namespace iqgs {
namespace cuda {
namespace {

constexpr int BACKWARD_BATCH = 32;  // splats copied at a time: one bit of a word each

// What a launch differentiates beside its channels.
enum Geometry { NO_GEOMETRY, PLANE, PLANE_AND_DEPTH };

// Image gradients and state of one pixel.
template <int CHANNELS>
struct PixelGrad {
  float channels[CHANNELS];
  float depth, median_depth, distortion;
  float rest;           // light behind, times its gradient
  float transmittance;  // behind the splat at hand
  int last, median;     // positions in the tile's list
  DistortionSums<float> sums;
};

// Half a warp sums its weights times image gradients over its pixels for 16 channels at a time, a
// lane a channel; for the last eight a lane has one channel of eight pixels, for the last four one
// of four. So a lane keeps as many image gradients as there are channels.
template <int CHANNELS>
struct HalfGrad {
  float channels[CHANNELS];
};

__host__ __device__ constexpr int part_of(int channels) {
  return channels >= 16 ? 16 : channels >= 8 ? 8 : 4;
}

// Where the sums of a batch lie in shared memory. A row is MOMENTS (if geometry), then channels.
struct GradBatch {
  RecordRows records;  // [BACKWARD_BATCH]
  float* rows;         // [BACKWARD_BATCH, channels], see row_stride
  float* sums;         // [TILE_WARPS, BACKWARD_BATCH, values]
  float* weights;      // [TILE_WARPS, WARP] of the splats at hand
  int32_t* splats;     // [BACKWARD_BATCH]
  uint32_t* masks;     // [BACKWARD_BATCH]
  uint32_t* touched;   // [TILE_WARPS] bit i: the warp has a sum for splat i
  int* last;           // [TILE_WARPS]
};

__host__ __device__ constexpr int grad_values(int channels, int geometry) {
  return (geometry == NO_GEOMETRY ? 0 : int(MOMENTS)) + channels;
}

__host__ __device__ constexpr int sum_floats(int channels, int geometry) {
  return TILE_WARPS * BACKWARD_BATCH * grad_values(channels, geometry);
}

size_t grad_bytes(int channels, int geometry) {
  return size_t(4) * (BACKWARD_BATCH * (RecordRows::STRIDE + row_stride(channels) + 2) +
                      sum_floats(channels, geometry) + TILE_WARPS * (WARP + 2));
}

template <int CHANNELS, int GEOMETRY>
__device__ __forceinline__ GradBatch carve_grads(float* memory) {
  GradBatch b;
  b.records = {memory};
  b.rows = memory + BACKWARD_BATCH * RecordRows::STRIDE;
  b.sums = b.rows + BACKWARD_BATCH * row_stride(CHANNELS);
  b.weights = b.sums + sum_floats(CHANNELS, GEOMETRY);
  b.splats = reinterpret_cast<int32_t*>(b.weights + TILE_WARPS * WARP);
  b.masks = reinterpret_cast<uint32_t*>(b.splats + BACKWARD_BATCH);
  b.touched = b.masks + BACKWARD_BATCH;
  b.last = reinterpret_cast<int*>(b.touched + TILE_WARPS);
  return b;
}

// dL/d(channel c of the image) of one pixel; zero where no such gradient came in.
__device__ __forceinline__ float image_grad(const BlendGradParams& p, int c, int64_t pixel) {
  const int64_t plane = int64_t(p.forward.camera.width) * p.forward.camera.height;
  const float* from = c < 3 ? p.normal : c < SHADE_CHANNELS ? p.color : p.feature;
  const int k = c < 3 ? c : c < SHADE_CHANNELS ? c - 3 : c - SHADE_CHANNELS;
  return from ? from[k * plane + pixel] : 0.0f;
}

template <int CHANNELS, int GEOMETRY>
__device__ void load_grads(const BlendGradParams& p, const PixelTotals& t, const Pixel& pixel,
                           int first, int count, PixelGrad<CHANNELS>& g) {
  g = {};
  g.median = -1;
  if (!pixel.inside) return;
  const int64_t i = pixel.index;
#pragma unroll
  for (int k = 0; k < CHANNELS; ++k) g.channels[k] = k < count ? image_grad(p, first + k, i) : 0.0f;
  g.transmittance = t.transmittance[i];
  g.last = t.last[i];
  if (GEOMETRY == NO_GEOMETRY) return;
  float behind = p.alpha ? -p.alpha[i] : 0.0f;
  for (int c = 0; c < 3; ++c)
    behind = fused(image_grad(p, 3 + c, i), p.forward.background[c], behind);
  g.rest = g.transmittance * behind;
  if (GEOMETRY == PLANE) return;
  g.depth = p.depth ? p.depth[i] : 0.0f;
  g.median_depth = p.median_depth ? p.median_depth[i] : 0.0f;
  g.distortion = p.distortion ? p.distortion[i] : 0.0f;
  g.median = t.median[i];
  g.sums = {1.0f - g.transmittance, t.first[i], t.second[i]};
}

// From channel FIRST of CHANNELS on.
template <int FIRST, int CHANNELS>
__device__ void load_half(const BlendGradParams& p, const Pixel& pixel, int first, int count,
                          HalfGrad<CHANNELS>& g) {
  constexpr int PART = part_of(CHANNELS - FIRST);
  const int lane = lane_index() % HALF, c = FIRST + lane % PART;
  const int x = pixel.x - lane % BLOCK, y = pixel.y - lane / BLOCK;
#pragma unroll
  for (int k = 0; k < PART; ++k) {
    const int at = lane / PART * PART + k, px = x + at % BLOCK, py = y + at / BLOCK;
    const int width = p.forward.camera.width;
    const bool inside = px < width && py < p.forward.camera.height && c < count;
    g.channels[FIRST + k] = inside ? image_grad(p, first + c, int64_t(py) * width + px) : 0.0f;
  }
  if constexpr (FIRST + PART < CHANNELS) load_half<FIRST + PART>(p, pixel, first, count, g);
}

// Adds to `linear` = dL/dw what comes through depth and distortion; returns dL/dz.
template <int CHANNELS>
__device__ __forceinline__ float depth_vjp(const SplatRecord& splat, const Hit<float>& h,
                                           const PixelOptions& o, const PixelGrad<CHANNELS>& g,
                                           float w, int position, float& linear) {
  linear = fused(g.depth, hit_depth(splat, h, o), linear);
  float term = w * g.depth;
  if (g.median == position) term += g.median_depth;
  const float inverse_depth = hit_inverse_depth(splat, h, o);
  const float mapped = mapped_depth(inverse_depth, o);
  linear = fused(g.distortion, g.sums.weight_slope(mapped), linear);
  return fused(g.distortion * g.sums.depth_slope(w, mapped), mapped_depth_slope(inverse_depth, o),
               term);
}

__device__ __forceinline__ void set_moments(const SplatRecord& r, const Hit<float>& h,
                                            const HitGrad<float>& g, float alpha_term,
                                            bool absolute, float* m) {
  m[M_U] = g.u;
  m[M_U_DX] = g.u * h.dx;
  m[M_U_DY] = g.u * h.dy;
  m[M_V] = g.v;
  m[M_V_DX] = g.v * h.dx;
  m[M_V_DY] = g.v * h.dy;
  m[M_W] = g.ratio;
  m[M_W_DX] = g.ratio * h.dx;
  m[M_W_DY] = g.ratio * h.dy;
  m[M_ALPHA] = alpha_term;
  m[M_ANCHOR_X] = g.anchor_x;
  m[M_ANCHOR_Y] = g.anchor_y;
  m[M_DEPTH] = g.depth;
  m[M_HIT_DEPTH] = g.hit_depth;
  m[M_ABS_X] = m[M_ABS_Y] = 0.0f;
  if (!absolute) return;
  const ScreenSignal<float> s = screen_signal(r.a, r.b, r.c, r.d, r.e, r.f, r.depth, m);
  m[M_ABS_X] = magnitude(s.x);
  m[M_ABS_Y] = magnitude(s.y);
}

// Channels beyond those in registers still move the weights: the rest of <row, dL/dchannels>. Asks
// for the pixel anew: such channels are rare, registers are not to spare.
__device__ __forceinline__ float wide_linear(const BlendGradParams& p, int32_t splat, int first,
                                             bool hit) {
  const int64_t pixel = this_pixel(p.forward, this_tile(p.forward)).index;
  float sum = 0.0f;
#pragma unroll 1
  for (int c = first; hit && c < p.first_channel + p.channel_count; ++c)
    sum = fused(splat_channel(p.forward, splat, c), image_grad(p, c, pixel), sum);
  return sum;
}

// Adds what the lanes of both halves have of sum `v` of their splats to the warp's rows. Two halves at
// the same splat add first, so that one lane writes.
__device__ __forceinline__ void add_sum(float* row, bool twin, bool writes, float value) {
  const float other = __shfl_xor_sync(EVERY_LANE, value, HALF);
  if (writes) *row += twin ? value + other : value;
}

// Sums of weights times image gradients, from channel FIRST of CHANNELS on, to the warp's rows.
template <int FIRST, int CHANNELS>
__device__ __forceinline__ void sum_channels(const float* weights, const HalfGrad<CHANNELS>& g,
                                             bool twin, bool writes, float* row) {
  constexpr int PART = part_of(CHANNELS - FIRST);
  const int lane = lane_index() % HALF;
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < PART; k += 4) {
    const float4 v = row_quad(weights + lane / PART * PART, k / 4);
    sum = fused(v.x, g.channels[FIRST + k], sum);
    sum = fused(v.y, g.channels[FIRST + k + 1], sum);
    sum = fused(v.z, g.channels[FIRST + k + 2], sum);
    sum = fused(v.w, g.channels[FIRST + k + 3], sum);
  }
#pragma unroll
  for (int step = PART; step < HALF; step *= 2) sum += __shfl_xor_sync(EVERY_LANE, sum, step);
  add_sum(row + FIRST + lane % PART, twin, writes && lane < PART, sum);
  if constexpr (FIRST + PART < CHANNELS)
    sum_channels<FIRST + PART>(weights, g, twin, writes, row);
}

// The half's splat i of the batch at its pixels, -1 if it has none left: gradients summed over them
// and added to the warp's rows. False where neither half reaches a pixel.
template <int CHANNELS, int GEOMETRY>
__device__ __forceinline__ bool descend(const BlendGradParams& p, const GradBatch& b, int i,
                                        int begin, const Pixel& pixel, const PixelOptions& o,
                                        int wide, const HalfGrad<CHANNELS>& half,
                                        PixelGrad<CHANNELS>& g) {
  const int place = i < 0 ? 0 : i, position = begin + place;
  const SplatRecord& splat = b.records[place];
  Hit<float> h = intersect(splat, o, pixel.px, pixel.py);
  const bool hit = i >= 0 && position < g.last && inside(splat, h, o);
  if (!__any_sync(EVERY_LANE, hit)) return false;
  const float alpha = hit ? splat_alpha(splat, h) : 0.0f;
  const float left = reciprocal(1.0f - alpha);
  g.transmittance = hit ? g.transmittance * left : g.transmittance;
  const float w = alpha * g.transmittance;
  const int lane = lane_index(), other = __shfl_xor_sync(EVERY_LANE, i, HALF);
  const bool twin = other == i, writes = i >= 0 && !(twin && lane >= HALF);
  float* weights = b.weights + warp_index() * WARP;
  float* row =
      b.sums + (warp_index() * BACKWARD_BATCH + place) * grad_values(CHANNELS, GEOMETRY);
  __syncwarp();
  weights[lane] = w;
  __syncwarp();
  if (GEOMETRY != NO_GEOMETRY) {
    h.u = hit ? h.u : 0.0f;
    h.v = hit ? h.v : 0.0f;
    h.inverse = hit ? h.inverse : 0.0f;
    const float* channels = b.rows + place * row_stride(CHANNELS);
    float linear = 0.0f, odd = 0.0f;
#pragma unroll
    for (int k = 0; k < CHANNELS / 4; ++k) {
      const float4 v = row_quad(channels, k);
      linear = fused(v.x, g.channels[4 * k], linear);
      odd = fused(v.y, g.channels[4 * k + 1], odd);
      linear = fused(v.z, g.channels[4 * k + 2], linear);
      odd = fused(v.w, g.channels[4 * k + 3], odd);
    }
    linear += odd;
    if (wide) linear += wide_linear(p, b.splats[place], wide, hit);
    float depth_term = 0.0f;
    if (GEOMETRY == PLANE_AND_DEPTH)
      depth_term = hit ? depth_vjp(splat, h, o, g, w, position, linear) : 0.0f;
    // alpha dL/dalpha = w dL/dw - alpha / (1 - alpha) (what lies behind); zero where clamped.
    const float lit = w * linear;
    const float alpha_term = alpha < MAX_ALPHA ? lit - g.rest * alpha * left : 0.0f;
    g.rest += lit;
    const HitGrad<float> grad =
        hit_vjp<GEOMETRY == PLANE_AND_DEPTH>(splat, h, o, alpha_term, depth_term);
    float m[MOMENTS];
    set_moments(splat, h, grad, alpha_term, p.absolute, m);
    static_assert(MOMENTS == HALF, "a lane a moment");
    transpose_sum(m);
    add_sum(row + lane % HALF, twin, writes, m[0]);
    row += MOMENTS;
  }
  sum_channels<0>(weights + (lane & HALF), half, twin, writes, row);
  return true;
}

__device__ __forceinline__ float4 plus(const float4& a, const float4& b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// Adds the warps' sums of a batch in order and writes the rows of the pairs, four numbers a thread:
// rows end on a cache line, so what the last four have too many finds room.
template <int VALUES>
__device__ void write_rows(const BlendGradParams& p, const GradBatch& b, int64_t pair, int count,
                           int moments, int column, int columns) {
  static_assert(VALUES % 4 == 0 && MOMENTS % 4 == 0 && WIDEST % 4 == 0, "fours of one kind");
  constexpr int QUADS = VALUES / 4;
  for (int k = threadIdx.x; k < count * QUADS; k += TILE_THREADS) {
    const int i = k / QUADS, v = k % QUADS * 4;
    if (v >= moments + columns) continue;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int warp = 0; warp < TILE_WARPS; ++warp)
      if ((b.touched[warp] >> i) & 1u)
        sum = plus(sum, row_quad(b.sums + (warp * BACKWARD_BATCH + i) * VALUES, v / 4));
    float* row = p.rows + int64_t(p.forward.lists.row[pair + i]) * p.row_floats;
    *reinterpret_cast<float4*>(row + (v < moments ? v : column + v - moments)) = sum;
  }
}

// Rows of the pairs that no pixel reached, a warp a row.
__device__ void clear_rows(const BlendGradParams& p, int64_t from, int64_t to, int moments,
                           int column, int columns) {
  for (int64_t pair = from + warp_index(); pair < to; pair += TILE_WARPS) {
    float* row = p.rows + int64_t(p.forward.lists.row[pair]) * p.row_floats;
    for (int v = lane_index(); v < moments + columns; v += WARP)
      row[v < moments ? v : column + v - moments] = 0.0f;
  }
}

// Zeros for the sums of the warps.
template <int FLOATS>
__device__ __forceinline__ void clear_sums(float* sums) {
  static_assert(FLOATS % (4 * TILE_THREADS) == 0, "four a thread");
#pragma unroll
  for (int k = 0; k < FLOATS / (4 * TILE_THREADS); ++k)
    reinterpret_cast<float4*>(sums)[k * TILE_THREADS + threadIdx.x] =
        make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

// One past the last splat that any pixel of the block received.
__device__ __forceinline__ int last_of_block(const GradBatch& b, int last) {
  const int warp_last = warp_max(last);
  if (lane_index() == 0) b.last[warp_index()] = warp_last;
  __syncthreads();
  int block_last = 0;
  for (int w = 0; w < TILE_WARPS; ++w) block_last = b.last[w] > block_last ? b.last[w] : block_last;
  return block_last;
}

// Blocks that share a multiprocessor at least.
constexpr int least_blocks(int geometry) {
  return geometry == NO_GEOMETRY ? 3 : 2;
}

// Channels first .. first + count, written from column first - p.first_channel of the rows'
// channels.
template <int CHANNELS, int GEOMETRY>
__global__ void __launch_bounds__(TILE_THREADS, least_blocks(GEOMETRY))
    blend_backward_kernel(BlendGradParams p, PixelTotals totals, int first, int count) {
  constexpr int VALUES = grad_values(CHANNELS, GEOMETRY), MOVING = grad_values(0, GEOMETRY);
  IQGS_DYNAMIC_SHARED(float, memory);
  const GradBatch b = carve_grads<CHANNELS, GEOMETRY>(memory);
  const Tile tile = this_tile(p.forward);
  const Pixel pixel = this_pixel(p.forward, tile);
  const PixelOptions o = tile_options(p.forward, tile);
  PixelGrad<CHANNELS> g;
  load_grads<CHANNELS, GEOMETRY>(p, totals, pixel, first, count, g);
  HalfGrad<CHANNELS> half;
  load_half<0>(p, pixel, first, count, half);
  const int warp = warp_index(), thread = static_cast<int>(threadIdx.x);
  const int column = (p.geometry ? int(MOMENTS) : 0) + first - p.first_channel;
  const int wide = first + count < p.first_channel + p.channel_count ? first + count : 0;
  const int block_last = last_of_block(b, g.last);
  clear_rows(p, tile.first + block_last, tile.last, MOVING, column, count);
  for (int end = block_last; end > 0; end -= BACKWARD_BATCH) {
    const int begin = end > BACKWARD_BATCH ? end - BACKWARD_BATCH : 0, batch = end - begin;
    const int64_t pair = tile.first + begin;
    __syncthreads();
    clear_sums<sum_floats(CHANNELS, GEOMETRY)>(b.sums);
    if (thread < batch) {
      b.splats[thread] = p.forward.lists.splat[pair + thread];
      b.masks[thread] = p.forward.lists.mask[pair + thread];
      load_record(p.forward, tile, b.splats[thread], b.records[thread]);
    }
    __syncthreads();
    load_rows<CHANNELS>(p.forward, b.splats, batch, first, count, b.rows);
    __syncthreads();
    const int lane = lane_index();
    unsigned bits = half_bits(lane < batch ? b.masks[lane] : 0);
    uint32_t touched = 0;
    while (__any_sync(EVERY_LANE, bits != 0)) {
      const int i = bits ? WARP - 1 - __clz(static_cast<int>(bits)) : -1;
      const uint32_t bit = bits ? 1u << i : 0;
      bits ^= bit;
      if (descend<CHANNELS, GEOMETRY>(p, b, i, begin, pixel, o, wide, half, g)) touched |= bit;
    }
    touched |= __shfl_xor_sync(EVERY_LANE, touched, HALF);
    if (lane == 0) b.touched[warp] = touched;
    __syncthreads();
    write_rows<VALUES>(p, b, pair, batch, MOVING, column, count);
  }
}

template <int GEOMETRY>
void blend_channels(const BlendGradParams& p, const PixelTotals& t, int first, int count,
                    void* stream) {
  const int tiles = p.forward.lists.tiles_x * p.forward.lists.tiles_y;
  const auto pass = [&](auto kernel, int channels) {
    launch("blend_backward", stream, tiles, TILE_THREADS, grad_bytes(channels, GEOMETRY), kernel, p,
           t, first, count);
  };
  if (count <= 4) return pass(&blend_backward_kernel<4, GEOMETRY>, 4);
  if (count <= 8) return pass(&blend_backward_kernel<8, GEOMETRY>, 8);
  if (count <= 16) return pass(&blend_backward_kernel<16, GEOMETRY>, 16);
  pass(&blend_backward_kernel<WIDEST, GEOMETRY>, WIDEST);
}

}  // namespace

void blend_tiles_backward(const BlendGradParams& p, const PixelTotals& totals, void* stream) {
  const int end = p.first_channel + p.channel_count;
  int at = p.first_channel;
  const auto width = [&] { return end - at < WIDEST ? end - at : WIDEST; };
  if (p.geometry) {
    if (p.depth || p.median_depth || p.distortion)
      blend_channels<PLANE_AND_DEPTH>(p, totals, at, width(), stream);
    else
      blend_channels<PLANE>(p, totals, at, width(), stream);
    at += width();
  }
  for (; at < end; at += width()) blend_channels<NO_GEOMETRY>(p, totals, at, width(), stream);
}

}  // namespace cuda
}  // namespace iqgs
