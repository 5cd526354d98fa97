// SPDX-License-Identifier: Apache-2.0
// Gradients of images to gradients of pairs, back to front. A lane is a pixel with one scalar of
// state, the light that is still behind. Each half of a warp sums a splat's gradient over its
// pixels, the block adds them in order and writes the pair's own row: no atomics, the same bits on
// every run.
#include "../common/ellipsoid_math.h"
#include "../common/surfel_math.h"
#include "half_sums.h"

namespace iqgs {
namespace cuda {
namespace {

// Adds to `linear` = dL/dw what comes through depth and distortion; returns dL/dz.
template <class Pixels, int CHANNELS>
__device__ __forceinline__ float depth_vjp(const SplatRecord& splat,
                                           const typename Pixels::template Hit<float>& h,
                                           const PixelOptions& o, const PixelGrad<CHANNELS>& g,
                                           float w, int position, float& linear) {
  linear = fused(g.depth, Pixels::depth(splat, h, o), linear);
  float term = w * g.depth;
  if (g.median == position) term += g.median_depth;
  const float inverse_depth = Pixels::inverse_depth(splat, h, o);
  const float mapped = mapped_depth(inverse_depth, o);
  linear = fused(g.distortion, g.sums.weight_slope(mapped), linear);
  return fused(g.distortion * g.sums.depth_slope(w, mapped), mapped_depth_slope(inverse_depth, o),
               term);
}

// |the screen signal| of one pixel.
template <class Pixels>
__device__ __forceinline__ ScreenSignal<float> absolute_signal(
    const SplatRecord& r, const typename Pixels::template Hit<float>& h, const HitGrad<float>& g) {
  float m[MOMENTS];
  m[M_U] = g.u;
  m[M_U_DX] = g.u * h.dx;
  m[M_U_DY] = g.u * h.dy;
  m[M_V] = g.v;
  m[M_V_DX] = g.v * h.dx;
  m[M_V_DY] = g.v * h.dy;
  m[M_HIT_DEPTH] = g.hit_depth;
  const ScreenSignal<float> s =
      Pixels::screen_signal(r.a, r.b, r.c, r.d, r.e, r.f, r.depth, m);
  return {magnitude(s.x), magnitude(s.y)};
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

// Where the pixel is missed the hit is finite, so that its products with nothing are nothing.
__device__ __forceinline__ void tame_hit(Surfel::Hit<float>& h, bool hit) {
  h.u = hit ? h.u : 0.0f;
  h.v = hit ? h.v : 0.0f;
  h.inverse = hit ? h.inverse : 0.0f;
  h.ratio = hit ? h.ratio : 1.0f;
}

__device__ __forceinline__ void tame_hit(Ellipsoid::Hit<float>& h, bool hit) {
  h.u = hit ? h.u : 0.0f;
  h.v = hit ? h.v : 0.0f;
}

// Light that a pixel receives of a splat, times its gradient, and on to the splat's record.
template <class Pixels, int CHANNELS, int GEOMETRY>
__device__ __forceinline__ HitGrad<float> pixel_vjp(const BlendGradParams& p, const GradBatch& b,
                                                    const ListedGrads& batch, int i, int position,
                                                    const PixelOptions& o,
                                                    const typename Pixels::template Hit<float>& h,
                                                    bool hit, float alpha, float left, float w,
                                                    int wide,
                                                    PixelGrad<CHANNELS>& g, float& alpha_term) {
  const SplatRecord& splat = b.records[i];
  const float* channels = b.rows + i * row_stride(CHANNELS);
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
  if (wide) linear += wide_linear(p, batch.splats[i], wide, w > 0.0f);
  float depth_term = 0.0f;
  if (GEOMETRY == PLANE_AND_DEPTH) depth_term = depth_vjp<Pixels>(splat, h, o, g, w, position, linear);
  // alpha dL/dalpha = w dL/dw - alpha / (1 - alpha) (what lies behind); zero where clamped. All of
  // it is zero where the pixel is missed, whatever its gradient.
  const float lit = hit ? w * linear : 0.0f;
  alpha_term = hit && alpha < MAX_ALPHA ? lit - g.rest * alpha * left : 0.0f;
  if (!hit) depth_term = 0.0f;
  g.rest += lit;
  return Pixels::template vjp<GEOMETRY == PLANE_AND_DEPTH>(splat, h, o, alpha_term, depth_term);
}

// The half's splat i of the batch at its pixels, -1 if it has none left: gradients summed over them
// and added to the warp's rows. `end` is one past the batch's hindmost splat.
template <class Pixels, int CHANNELS, int GEOMETRY>
__device__ __forceinline__ void descend(const BlendGradParams& p, const GradBatch& b,
                                        const ListedGrads& batch, int i, int end,
                                        const Pixel& pixel, const PixelOptions& o, int wide,
                                        const HalfGrad<CHANNELS>& half, bool wild,
                                        const MomentLane& moment,
                                        PixelGrad<CHANNELS>& g) {
  const int place = i < 0 ? 0 : i, position = end - 1 - place;
  const SplatRecord& splat = b.records[place];
  auto h = Pixels::intersect(splat, o, pixel.px, pixel.py);
  const bool hit = both(i >= 0, both(position < g.last, Pixels::inside(splat, h, o)));
  if (!__any_sync(EVERY_LANE, hit)) return;
  const float alpha = hit ? splat_alpha(splat, Pixels::rho(h)) : 0.0f;
  const float left = reciprocal(1.0f - alpha);
  g.transmittance = hit ? g.transmittance * left : g.transmittance;
  const float w = alpha * g.transmittance;
  const int lane = lane_index(), other = __shfl_xor_sync(EVERY_LANE, i, HALF);
  const bool twin = other == i, writes = i >= 0 && !(twin && lane >= HALF);
  float* stage = b.stage + warp_index() * staged_floats(GEOMETRY);
  constexpr int WITH_MOMENT = GEOMETRY == NO_GEOMETRY ? 0 : 1;
  float sums[(grad_values(CHANNELS, GEOMETRY) + HALF - 1) / HALF];
  __syncwarp();
  stage[lane] = w;
  if (GEOMETRY == NO_GEOMETRY) {
    __syncwarp();
  } else {
    tame_hit(h, hit);
    float alpha_term;
    const HitGrad<float> grad = pixel_vjp<Pixels, CHANNELS, GEOMETRY>(
        p, b, batch, place, position, o, h, hit, alpha, left, w, wide, g, alpha_term);
    float* mine = stage + lane;
    mine[S_U * STAGE_STRIDE] = grad.u;
    mine[S_V * STAGE_STRIDE] = grad.v;
    if (Pixels::FLAT) mine[S_W * STAGE_STRIDE] = grad.ratio;
    mine[S_ALPHA * STAGE_STRIDE] = alpha_term;
    if (Pixels::FLAT) {
      mine[S_ANCHOR_X * STAGE_STRIDE] = grad.anchor_x;
      mine[S_ANCHOR_Y * STAGE_STRIDE] = grad.anchor_y;
    }
    if (GEOMETRY == PLANE_AND_DEPTH) {
      mine[S_DEPTH * STAGE_STRIDE] = grad.depth;
      if (Pixels::FLAT) mine[S_HIT_DEPTH * STAGE_STRIDE] = grad.hit_depth;
    }
    __syncwarp();
    static_assert(MOMENTS == HALF, "a lane a moment");
    constexpr int GIVEN = GEOMETRY == PLANE_AND_DEPTH ? int(M_ABS_X) : int(M_ALWAYS);
    sums[0] = lane % HALF < GIVEN ? sum_moment(stage, moment, splat.x, splat.y) : 0.0f;
    if (p.absolute) {
      const ScreenSignal<float> s = absolute_signal<Pixels>(splat, h, grad);
      __syncwarp();
      mine[S_U * STAGE_STRIDE] = s.x;
      mine[S_V * STAGE_STRIDE] = s.y;
      __syncwarp();
      const int from = (lane % HALF == M_ABS_X ? S_U : S_V) * STAGE_STRIDE + (lane & HALF);
      const float sum = sum_moment(stage, {from, 1.0f, 0.0f, 0.0f}, 0.0f, 0.0f);
      if (lane % HALF >= M_ABS_X) sums[0] = sum;
    }
  }
  if (wild)
    sum_channels<0, true>(stage + (lane & HALF), half, sums + WITH_MOMENT);
  else
    sum_channels<0, false>(stage + (lane & HALF), half, sums + WITH_MOMENT);
  const int slot = warp_index() * SLOTS + slot_of(batch, warp_index(), place);
  add_sums<CHANNELS, GEOMETRY>(b.sums + slot * grad_values(CHANNELS, GEOMETRY), twin, writes, sums);
}

// Blocks that share a multiprocessor at least.
constexpr int least_blocks(int geometry) {
  return geometry == NO_GEOMETRY ? 3 : 2;
}

// Channels first .. first + count, written from column first - p.first_channel of the rows'
// channels.
template <class Pixels, int CHANNELS, int GEOMETRY>
__global__ void __launch_bounds__(TILE_THREADS, least_blocks(GEOMETRY))
    blend_backward_kernel(BlendGradParams p, PixelTotals totals, ChannelGrads planes, int first,
                          int count) {
  constexpr int VALUES = grad_values(CHANNELS, GEOMETRY), MOVING = grad_values(0, GEOMETRY);
  IQGS_DYNAMIC_SHARED(float, memory);
  const GradBatch b = carve_grads<CHANNELS, GEOMETRY>(memory);
  const Tile tile = this_tile(p.forward);
  const Pixel pixel = this_pixel(p.forward, tile);
  const PixelOptions o = tile_options(p.forward, tile);
  PixelGrad<CHANNELS> g;
  load_grads<CHANNELS, GEOMETRY>(p, totals, planes, pixel, g);
  HalfGrad<CHANNELS> half;
  load_half<0>(p.forward.camera, planes, pixel, half);
  const bool wild = any_wild(half);
  const MomentLane moment = moment_lane<Pixels>(pixel);
  const int thread = static_cast<int>(threadIdx.x), lane = lane_index();
  const int column = (p.geometry ? int(MOMENTS) : 0) + first - p.first_channel;
  const int wide = first + count < p.first_channel + p.channel_count ? first + count : 0;
  const int block_last = last_of_block(b, g.last);
  clear_rows(p, tile.first + block_last, tile.last, MOVING, column, count);
  clear_sums<sum_floats(CHANNELS, GEOMETRY)>(b.sums);
  list_batch(p.forward, tile, block_last, listed_grads(b, 0));
  __syncthreads();
  for (int end = block_last, turn = 0, count_before = 0;; turn ^= 1) {
    const ListedGrads batch = listed_grads(b, turn);
    write_rows<VALUES>(p, b, listed_grads(b, turn ^ 1), count_before, MOVING, column, count);
    if (end <= 0) break;
    const int most = min(end, BACKWARD_BATCH);
    if (thread < most) load_record(p.forward, tile, batch.splats[thread], b.records[thread]);
    load_rows<CHANNELS>(p.forward, batch.splats, most, first, count, b.rows);
    find_reaches(batch, most, b.limits);
    __syncthreads();
    int splats = most;
    for (int w = 0; w < TILE_WARPS; ++w) splats = min(b.limits[w], splats);
    list_batch(p.forward, tile, end - splats, listed_grads(b, turn ^ 1));
    for (int word = 0; word < splats; word += WARP) {
      unsigned bits = half_bits(word + lane < splats ? batch.masks[word + lane] : 0);
      while (__any_sync(EVERY_LANE, bits != 0)) {
        const int i = bits ? word + __ffs(static_cast<int>(bits)) - 1 : -1;
        bits &= bits - 1;
        descend<Pixels, CHANNELS, GEOMETRY>(p, b, batch, i, end, pixel, o, wide, half, wild, moment, g);
      }
    }
    end -= splats;
    count_before = splats;
    __syncthreads();
  }
}

template <class Pixels, int GEOMETRY>
void blend_channels(const BlendGradParams& p, const PixelTotals& t, int first, int count,
                    void* stream) {
  const int tiles = p.forward.lists.tiles_x * p.forward.lists.tiles_y;
  const auto pass = [&](auto kernel, int channels) {
    launch("blend_backward", stream, tiles, TILE_THREADS, grad_bytes(channels, GEOMETRY), kernel, p,
           t, channel_grads(p, first, count), first, count);
  };
  if (count <= 4) return pass(&blend_backward_kernel<Pixels, 4, GEOMETRY>, 4);
  if (count <= 8) return pass(&blend_backward_kernel<Pixels, 8, GEOMETRY>, 8);
  if (count <= 16) return pass(&blend_backward_kernel<Pixels, 16, GEOMETRY>, 16);
  pass(&blend_backward_kernel<Pixels, WIDEST, GEOMETRY>, WIDEST);
}

template <class Pixels>
void blend_all(const BlendGradParams& p, const PixelTotals& totals, void* stream) {
  const int end = p.first_channel + p.channel_count;
  int at = p.first_channel;
  const auto width = [&] { return end - at < WIDEST ? end - at : WIDEST; };
  if (p.geometry) {
    if (p.depth || p.median_depth || p.distortion)
      blend_channels<Pixels, PLANE_AND_DEPTH>(p, totals, at, width(), stream);
    else
      blend_channels<Pixels, PLANE>(p, totals, at, width(), stream);
    at += width();
  }
  for (; at < end; at += width())
    blend_channels<Pixels, NO_GEOMETRY>(p, totals, at, width(), stream);
}

}  // namespace

void blend_tiles_backward(const BlendGradParams& p, const PixelTotals& totals, void* stream) {
  const auto blend =
      p.forward.primitive == Primitive::SURFEL ? blend_all<Surfel> : blend_all<Ellipsoid>;
  blend(p, totals, stream);
}

}  // namespace cuda
}  // namespace iqgs
