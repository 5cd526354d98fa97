// SPDX-License-Identifier: Apache-2.0
// Gradients of images to gradients of pairs, back to front. A lane is a pixel with one scalar of
// state, the light that is still behind. Each warp sums a splat's gradient over its pixels, then
// the block adds the warps in order and writes the pair's own row: no atomics, the same bits on
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

// Where the sums of a batch lie in shared memory. A row is MOMENTS (if geometry), then channels.
struct GradBatch {
  SplatRecord* records;  // [BACKWARD_BATCH]
  float* rows;           // [BACKWARD_BATCH, CHANNELS]
  float* sums;           // [TILE_WARPS, BACKWARD_BATCH, values]
  int32_t* splats;       // [BACKWARD_BATCH]
  uint32_t* masks;       // [BACKWARD_BATCH]
  uint32_t* touched;     // [TILE_WARPS] bit i: the warp has a sum for splat i
  int* last;             // [TILE_WARPS]
};

__host__ __device__ constexpr int grad_values(int channels, int geometry) {
  return (geometry == NO_GEOMETRY ? 0 : int(MOMENTS)) + channels;
}

size_t grad_bytes(int channels, int geometry) {
  return BACKWARD_BATCH * (sizeof(SplatRecord) + 4 * channels + 8) +
         size_t(4) * TILE_WARPS * (BACKWARD_BATCH * grad_values(channels, geometry) + 2);
}

template <int CHANNELS, int GEOMETRY>
__device__ __forceinline__ GradBatch carve_grads(float* memory) {
  GradBatch b;
  b.records = reinterpret_cast<SplatRecord*>(memory);
  b.rows = memory + BACKWARD_BATCH * RECORD_FLOATS;
  b.sums = b.rows + BACKWARD_BATCH * CHANNELS;
  b.splats = reinterpret_cast<int32_t*>(b.sums + TILE_WARPS * BACKWARD_BATCH *
                                                     grad_values(CHANNELS, GEOMETRY));
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

// Channels beyond those in registers still move the weights: the rest of <row, dL/dchannels>.
__device__ __forceinline__ float wide_linear(const BlendGradParams& p, int32_t splat, int first,
                                             const Pixel& pixel, bool hit) {
  float sum = 0.0f;
  for (int c = first; hit && c < p.first_channel + p.channel_count; ++c)
    sum = fused(splat_channel(p.forward, splat, c), image_grad(p, c, pixel.index), sum);
  return sum;
}

// One splat of the batch at the warp's pixels: its gradients summed over them, to `out`. False
// where it reaches none.
template <int CHANNELS, int GEOMETRY>
__device__ __forceinline__ bool descend(const BlendGradParams& p, const GradBatch& b, int i,
                                        int position, const Pixel& pixel, const PixelOptions& o,
                                        int wide, PixelGrad<CHANNELS>& g, float* out) {
  const SplatRecord& splat = b.records[i];
  Hit<float> h = intersect(splat, o, pixel.px, pixel.py);
  const bool hit = position < g.last && inside(splat, h, o);
  if (!__any_sync(EVERY_LANE, hit)) return false;
  const float alpha = hit ? splat_alpha(splat, h) : 0.0f;
  const float left = reciprocal(1.0f - alpha);
  g.transmittance = hit ? g.transmittance * left : g.transmittance;
  const float w = alpha * g.transmittance;
  float m[MOMENTS];
  if (GEOMETRY != NO_GEOMETRY) {
    h.u = hit ? h.u : 0.0f;
    h.v = hit ? h.v : 0.0f;
    h.inverse = hit ? h.inverse : 0.0f;
    const float* row = b.rows + i * CHANNELS;
    float linear = 0.0f, odd = 0.0f;
#pragma unroll
    for (int k = 0; k < CHANNELS / 4; ++k) {
      const float4 v = row_quad(row, k);
      linear = fused(v.x, g.channels[4 * k], linear);
      odd = fused(v.y, g.channels[4 * k + 1], odd);
      linear = fused(v.z, g.channels[4 * k + 2], linear);
      odd = fused(v.w, g.channels[4 * k + 3], odd);
    }
    linear += odd;
    if (wide) linear += wide_linear(p, b.splats[i], wide, pixel, hit);
    float depth_term = 0.0f;
    if (GEOMETRY == PLANE_AND_DEPTH)
      depth_term = hit ? depth_vjp(splat, h, o, g, w, position, linear) : 0.0f;
    // alpha dL/dalpha = w dL/dw - alpha / (1 - alpha) (what lies behind); zero where clamped.
    const float lit = w * linear;
    const float alpha_term = alpha < MAX_ALPHA ? lit - g.rest * alpha * left : 0.0f;
    g.rest += lit;
    const HitGrad<float> grad =
        hit_vjp<GEOMETRY == PLANE_AND_DEPTH>(splat, h, o, alpha_term, depth_term);
    set_moments(splat, h, grad, alpha_term, p.absolute, m);
  }
  constexpr int FIRST = grad_values(0, GEOMETRY);
  warp_sums<grad_values(CHANNELS, GEOMETRY)>(
      [&](int k) { return k < FIRST ? m[k] : w * g.channels[k < FIRST ? 0 : k - FIRST]; }, out);
  return true;
}

// Adds the warps' sums of a batch in order and writes the rows of the pairs.
template <int VALUES>
__device__ void write_rows(const BlendGradParams& p, const GradBatch& b, int64_t pair, int count,
                           int moments, int column, int columns) {
  for (int k = threadIdx.x; k < count * VALUES; k += TILE_THREADS) {
    const int i = k / VALUES, v = k % VALUES;
    if (v >= moments + columns) continue;
    float sum = 0.0f;
    for (int warp = 0; warp < TILE_WARPS; ++warp)
      if ((b.touched[warp] >> i) & 1u) sum += b.sums[(warp * BACKWARD_BATCH + i) * VALUES + v];
    float* row = p.rows + int64_t(p.forward.lists.row[pair + i]) * p.row_floats;
    row[v < moments ? v : column + v - moments] = sum;
  }
}

// Rows of the pairs that no pixel reached.
__device__ void clear_rows(const BlendGradParams& p, int64_t from, int64_t to, int moments,
                           int column, int columns) {
  const int width = moments + columns;
  for (int64_t k = threadIdx.x; k < (to - from) * width; k += TILE_THREADS) {
    const int v = static_cast<int>(k % width);
    const int64_t row = p.forward.lists.row[from + k / width];
    p.rows[row * p.row_floats + (v < moments ? v : column + v - moments)] = 0.0f;
  }
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

// Channels first .. first + count, written from column first - p.first_channel of the rows'
// channels.
template <int CHANNELS, int GEOMETRY>
__global__ void __launch_bounds__(TILE_THREADS)
    blend_backward_kernel(BlendGradParams p, PixelTotals totals, int first, int count) {
  constexpr int VALUES = grad_values(CHANNELS, GEOMETRY), MOVING = grad_values(0, GEOMETRY);
  IQGS_DYNAMIC_SHARED(float, memory);
  const GradBatch b = carve_grads<CHANNELS, GEOMETRY>(memory);
  const Tile tile = this_tile(p.forward);
  const Pixel pixel = this_pixel(p.forward, tile);
  const PixelOptions o = tile_options(p.forward, tile);
  PixelGrad<CHANNELS> g;
  load_grads<CHANNELS, GEOMETRY>(p, totals, pixel, first, count, g);
  const int warp = warp_index(), thread = static_cast<int>(threadIdx.x);
  const int column = (p.geometry ? int(MOMENTS) : 0) + first - p.first_channel;
  const int wide = first + count < p.first_channel + p.channel_count ? first + count : 0;
  const int block_last = last_of_block(b, g.last);
  clear_rows(p, tile.first + block_last, tile.last, MOVING, column, count);
  for (int end = block_last; end > 0; end -= BACKWARD_BATCH) {
    const int begin = end > BACKWARD_BATCH ? end - BACKWARD_BATCH : 0, batch = end - begin;
    const int64_t pair = tile.first + begin;
    __syncthreads();
    if (thread < batch) {
      b.splats[thread] = p.forward.lists.splat[pair + thread];
      b.masks[thread] = p.forward.lists.mask[pair + thread];
      load_record(p.forward, tile, b.splats[thread], b.records[thread]);
    }
    __syncthreads();
    load_rows<CHANNELS>(p.forward, b.splats, batch, first, count, b.rows);
    __syncthreads();
    const int lane = lane_index();
    unsigned bits = __ballot_sync(
        EVERY_LANE, lane < batch && (b.masks[lane < batch ? lane : 0] & warp_blocks()));
    uint32_t touched = 0;
    while (bits) {
      const int i = WARP - 1 - __clz(static_cast<int>(bits));
      bits &= ~(1u << i);
      if (descend<CHANNELS, GEOMETRY>(p, b, i, begin + i, pixel, o, wide, g,
                                      b.sums + (warp * BACKWARD_BATCH + i) * VALUES))
        touched |= 1u << i;
    }
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
