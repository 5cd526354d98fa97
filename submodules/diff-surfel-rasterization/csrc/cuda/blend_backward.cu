// SPDX-License-Identifier: Apache-2.0
// Gradients of images to gradients of pairs, back to front. A lane is a pixel with one scalar of
// state, the light that is still behind. Each half of a warp sums a splat's gradient over its
// pixels, the block adds them in order and writes the pair's own row: no atomics, the same bits on
// every run.
#include "tile.h"

namespace iqgs {
namespace cuda {
namespace {

constexpr int BACKWARD_BATCH = 64;  // splats copied at a time at most
constexpr int BACKWARD_WORDS = BACKWARD_BATCH / WARP;
constexpr int SLOTS = 20;  // of them that one warp has sums for; where it needs more, a batch is cut

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

// What the lanes tell each other of the splats at hand: a row of these for the pixels of a warp.
enum Staged {
  S_WEIGHT,
  S_U,
  S_V,
  S_W,  // dL/du / ratio, dL/dv / ratio, dL/dratio
  S_ALPHA,
  S_ANCHOR_X,
  S_ANCHOR_Y,
  S_DEPTH,
  S_HIT_DEPTH
};
constexpr int STAGE_STRIDE = WARP + 4;  // floats of a row: lanes that read different rows do not
                                        // share banks

__host__ __device__ constexpr int staged_floats(int geometry) {
  return STAGE_STRIDE * (geometry == NO_GEOMETRY ? 1 : geometry == PLANE ? 7 : 9);
}

// Which moment a lane of a half sums: that of row `from`, times one, dx or dy. The first pixel of
// the half and the splat's centre give the factor there; it grows by step_x and step_y a pixel.
struct MomentLane {
  int from;
  float first, step_x, step_y;
};

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

size_t grad_bytes(int channels, int geometry) {
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

// dL/d(channel c of the image) of one pixel; zero where no such gradient came in.
__device__ __forceinline__ float image_grad(const BlendGradParams& p, int c, int64_t pixel) {
  const int64_t plane = int64_t(p.forward.camera.width) * p.forward.camera.height;
  const float* from = c < 3 ? p.normal : c < SHADE_CHANNELS ? p.color : p.feature;
  const int k = c < 3 ? c : c < SHADE_CHANNELS ? c - 3 : c - SHADE_CHANNELS;
  return from ? from[k * plane + pixel] : 0.0f;
}

// The image gradients of a launch's channels; null where none came in, and beyond them.
struct ChannelGrads {
  const float* planes[WIDEST];  // [H, W] each
};

ChannelGrads channel_grads(const BlendGradParams& p, int first, int count) {
  const int64_t plane = int64_t(p.forward.camera.width) * p.forward.camera.height;
  ChannelGrads r = {};
  for (int k = 0; k < count; ++k) {
    const int c = first + k;
    const float* from = c < 3 ? p.normal : c < SHADE_CHANNELS ? p.color : p.feature;
    const int below = c < 3 ? 0 : c < SHADE_CHANNELS ? 3 : SHADE_CHANNELS;
    if (from) r.planes[k] = from + (c - below) * plane;
  }
  return r;
}

template <int CHANNELS, int GEOMETRY>
__device__ void load_grads(const BlendGradParams& p, const PixelTotals& t, const ChannelGrads& c,
                           const Pixel& pixel, PixelGrad<CHANNELS>& g) {
  g = {};
  g.median = -1;
  if (!pixel.inside) return;
  const int64_t i = pixel.index;
#pragma unroll
  for (int k = 0; k < CHANNELS; ++k) g.channels[k] = c.planes[k] ? c.planes[k][i] : 0.0f;
  g.transmittance = t.transmittance[i];
  g.last = t.last[i];
  if (GEOMETRY == NO_GEOMETRY) return;
  float behind = p.alpha ? -p.alpha[i] : 0.0f;
  for (int k = 0; k < 3; ++k)
    behind = fused(image_grad(p, 3 + k, i), p.forward.background[k], behind);
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
__device__ void load_half(const Camera& camera, const ChannelGrads& c, const Pixel& pixel,
                          HalfGrad<CHANNELS>& g) {
  constexpr int PART = part_of(CHANNELS - FIRST);
  const int lane = lane_index() % HALF;
  const float* plane = c.planes[FIRST + lane % PART];
  const int x = pixel.x - lane % BLOCK, y = pixel.y - lane / BLOCK + lane / PART * PART / BLOCK;
  if (plane) plane += int64_t(y) * camera.width + x;
#pragma unroll
  for (int k = 0; k < PART; ++k) {
    const int dx = k % BLOCK, dy = k / BLOCK;
    const bool inside = plane && x + dx < camera.width && y + dy < camera.height;
    g.channels[FIRST + k] = inside ? plane[dy * camera.width + dx] : 0.0f;
  }
  if constexpr (FIRST + PART < CHANNELS) load_half<FIRST + PART>(camera, c, pixel, g);
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

// Moments 0 to 8 are three rows times 1, dx, dy; the others rows as they are.
__device__ __forceinline__ MomentLane moment_lane(const Pixel& pixel) {
  static_assert(M_U == 0 && M_V == 3 && M_W == 6 && M_ALPHA == 9 && M_HIT_DEPTH == 13, "in turn");
  const int lane = lane_index() % HALF, factor = lane < M_ALPHA ? lane % 3 : 0;
  const int row = lane < M_ALPHA ? S_U + lane / 3 : lane < M_ABS_X ? S_ALPHA + lane - M_ALPHA : 0;
  const float x = pixel.px - static_cast<float>(lane % BLOCK);
  const float y = pixel.py - static_cast<float>(lane / BLOCK);
  return {row * STAGE_STRIDE + (lane_index() & HALF),
          factor == 1   ? x
          : factor == 2 ? y
                        : 1.0f,
          factor == 1 ? 1.0f : 0.0f, factor == 2 ? 1.0f : 0.0f};
}

// The lane's moment of a splat at (x, y): its row times the factors, over the pixels of the half.
__device__ __forceinline__ float sum_moment(const float* stage, const MomentLane& m, float x,
                                            float y) {
  float factor = fused(-m.step_x, x, fused(-m.step_y, y, m.first)), sum = 0.0f, across = 0.0f;
#pragma unroll
  for (int k = 0; k < BLOCK; ++k) {
    const float4 v = row_quad(stage + m.from, k);
    sum = fused((v.x + v.y) + (v.z + v.w), factor, sum);
    across += fused(3.0f, v.w, fused(2.0f, v.z, v.y));
    factor += m.step_y;
  }
  return fused(m.step_x, across, sum);
}

// |the screen signal| of one pixel.
__device__ __forceinline__ ScreenSignal<float> absolute_signal(const SplatRecord& r,
                                                               const Hit<float>& h,
                                                               const HitGrad<float>& g) {
  float m[MOMENTS];
  m[M_U] = g.u;
  m[M_U_DX] = g.u * h.dx;
  m[M_U_DY] = g.u * h.dy;
  m[M_V] = g.v;
  m[M_V_DX] = g.v * h.dx;
  m[M_V_DY] = g.v * h.dy;
  m[M_HIT_DEPTH] = g.hit_depth;
  const ScreenSignal<float> s = screen_signal(r.a, r.b, r.c, r.d, r.e, r.f, r.depth, m);
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

// Sums of weights times image gradients, from channel FIRST of CHANNELS on: a lane's own channel of
// each part.
template <int FIRST, int CHANNELS>
__device__ __forceinline__ void sum_channels(const float* weights, const HalfGrad<CHANNELS>& g,
                                             float* sums) {
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
  sums[0] = sum;
  if constexpr (FIRST + PART < CHANNELS) sum_channels<FIRST + PART>(weights, g, sums + 1);
}

// Adds what the lanes have of a splat's sums to the warp's row: COUNT values of each, the moment
// first where there is one. Where both halves are at the same splat (`twin`) they add first, so that
// one lane writes.
template <int CHANNELS, int GEOMETRY, int COUNT>
__device__ __forceinline__ void add_sums(float* row, bool twin, bool writes,
                                         float (&sums)[COUNT]) {
  if (__all_sync(EVERY_LANE, twin)) {  // the same in all lanes, and so the compiler knows
#pragma unroll
    for (int n = 0; n < COUNT; ++n) sums[n] += __shfl_xor_sync(EVERY_LANE, sums[n], HALF);
  }
  const int lane = lane_index() % HALF;
  constexpr int SKIP = GEOMETRY == NO_GEOMETRY ? 0 : 1;
#pragma unroll
  for (int n = 0; n < COUNT; ++n) {
    const int width = n < SKIP ? HALF : part_of(CHANNELS - HALF * (n - SKIP));
    sums[n] += writes && lane < width ? row[HALF * n + lane] : 0.0f;
  }
#pragma unroll
  for (int n = 0; n < COUNT; ++n) {
    const int width = n < SKIP ? HALF : part_of(CHANNELS - HALF * (n - SKIP));
    if (writes && lane < width) row[HALF * n + lane] = sums[n];
  }
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

// Light that a pixel receives of a splat, times its gradient, and on to the splat's record.
template <int CHANNELS, int GEOMETRY>
__device__ __forceinline__ HitGrad<float> pixel_vjp(const BlendGradParams& p, const GradBatch& b,
                                                    const ListedGrads& batch, int i, int position, const PixelOptions& o,
                                                    const Hit<float>& h, float alpha, float left,
                                                    float w, int wide, PixelGrad<CHANNELS>& g,
                                                    float& alpha_term) {
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
  if (GEOMETRY == PLANE_AND_DEPTH) depth_term = depth_vjp(splat, h, o, g, w, position, linear);
  // alpha dL/dalpha = w dL/dw - alpha / (1 - alpha) (what lies behind); zero where clamped.
  const float lit = w * linear;
  alpha_term = alpha < MAX_ALPHA ? lit - g.rest * alpha * left : 0.0f;
  g.rest += lit;
  return hit_vjp<GEOMETRY == PLANE_AND_DEPTH>(splat, h, o, alpha_term, depth_term);
}

// The half's splat i of the batch at its pixels, -1 if it has none left: gradients summed over them
// and added to the warp's rows. `end` is one past the batch's hindmost splat.
template <int CHANNELS, int GEOMETRY>
__device__ __forceinline__ void descend(const BlendGradParams& p, const GradBatch& b,
                                        const ListedGrads& batch, int i, int end,
                                        const Pixel& pixel, const PixelOptions& o,
                                        int wide, const HalfGrad<CHANNELS>& half,
                                        const MomentLane& moment, PixelGrad<CHANNELS>& g) {
  const int place = i < 0 ? 0 : i, position = end - 1 - place;
  const SplatRecord& splat = b.records[place];
  Hit<float> h = intersect(splat, o, pixel.px, pixel.py);
  const bool hit = both(i >= 0, both(position < g.last, inside(splat, h, o)));
  if (!__any_sync(EVERY_LANE, hit)) return;
  const float alpha = hit ? splat_alpha(splat, h) : 0.0f;
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
    h.u = hit ? h.u : 0.0f;  // finite, so that their products with nothing are nothing
    h.v = hit ? h.v : 0.0f;
    h.inverse = hit ? h.inverse : 0.0f;
    h.ratio = hit ? h.ratio : 1.0f;
    float alpha_term;
    const HitGrad<float> grad = pixel_vjp<CHANNELS, GEOMETRY>(p, b, batch, place, position, o, h, alpha,
                                                              left, w, wide, g, alpha_term);
    float* mine = stage + lane;
    mine[S_U * STAGE_STRIDE] = grad.u;
    mine[S_V * STAGE_STRIDE] = grad.v;
    mine[S_W * STAGE_STRIDE] = grad.ratio;
    mine[S_ALPHA * STAGE_STRIDE] = alpha_term;
    mine[S_ANCHOR_X * STAGE_STRIDE] = grad.anchor_x;
    mine[S_ANCHOR_Y * STAGE_STRIDE] = grad.anchor_y;
    if (GEOMETRY == PLANE_AND_DEPTH) {
      mine[S_DEPTH * STAGE_STRIDE] = grad.depth;
      mine[S_HIT_DEPTH * STAGE_STRIDE] = grad.hit_depth;
    }
    __syncwarp();
    static_assert(MOMENTS == HALF, "a lane a moment");
    constexpr int GIVEN = GEOMETRY == PLANE_AND_DEPTH ? int(M_ABS_X) : int(M_ALWAYS);
    sums[0] = lane % HALF < GIVEN ? sum_moment(stage, moment, splat.x, splat.y) : 0.0f;
    if (p.absolute) {
      const ScreenSignal<float> s = absolute_signal(splat, h, grad);
      __syncwarp();
      mine[S_U * STAGE_STRIDE] = s.x;
      mine[S_V * STAGE_STRIDE] = s.y;
      __syncwarp();
      const int from = (lane % HALF == M_ABS_X ? S_U : S_V) * STAGE_STRIDE + (lane & HALF);
      const float sum = sum_moment(stage, {from, 1.0f, 0.0f, 0.0f}, 0.0f, 0.0f);
      if (lane % HALF >= M_ABS_X) sums[0] = sum;
    }
  }
  sum_channels<0>(stage + (lane & HALF), half, sums + WITH_MOMENT);
  const int slot = warp_index() * SLOTS + slot_of(batch, warp_index(), place);
  add_sums<CHANNELS, GEOMETRY>(b.sums + slot * grad_values(CHANNELS, GEOMETRY), twin, writes, sums);
}

__device__ __forceinline__ float4 no_sums() {
  return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

__device__ __forceinline__ float4 plus(const float4& a, const float4& b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
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
    float4 sum = no_sums();
    const uint32_t blocks = batch.masks[i], lefts = 0x55555555u;
    for (uint32_t warps = (blocks | blocks >> 1) & lefts; warps; warps &= warps - 1) {
      const int warp = (__ffs(static_cast<int>(warps)) - 1) / 2;
      float4* from = reinterpret_cast<float4*>(b.sums) +
                     (warp * SLOTS + slot_of(batch, warp, i)) * QUADS + v / 4;
      sum = plus(sum, *from);
      *from = no_sums();
    }
    if (v >= moments + columns) continue;
    float* row = p.rows + int64_t(batch.rows[i]) * p.row_floats;
    *reinterpret_cast<float4*>(row + (v < moments ? v : column + v - moments)) = sum;
  }
}

// Rows of the pairs that no pixel reached, a warp a row.
__device__ void clear_rows(const BlendGradParams& p, int64_t from, int64_t to, int moments,
                           int column, int columns) {
  for (int64_t pair = from + warp_index(); pair < to; pair += TILE_WARPS) {
    float* row = p.rows + int64_t(p.forward.lists.row[pair]) * p.row_floats;
    for (int v = 4 * lane_index(); v < moments + columns; v += 4 * WARP)
      *reinterpret_cast<float4*>(row + (v < moments ? v : column + v - moments)) = no_sums();
  }
}

// Zeros for the sums of the warps.
template <int FLOATS>
__device__ __forceinline__ void clear_sums(float* sums) {
  static_assert(FLOATS % 4 == 0, "fours");
  for (int k = threadIdx.x; k < FLOATS / 4; k += TILE_THREADS)
    reinterpret_cast<float4*>(sums)[k] = no_sums();
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

// Blocks that share a multiprocessor at least.
constexpr int least_blocks(int geometry) {
  return geometry == NO_GEOMETRY ? 3 : 2;
}

// Channels first .. first + count, written from column first - p.first_channel of the rows'
// channels.
template <int CHANNELS, int GEOMETRY>
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
  const MomentLane moment = moment_lane(pixel);
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
        descend<CHANNELS, GEOMETRY>(p, b, batch, i, end, pixel, o, wide, half, moment, g);
      }
    }
    end -= splats;
    count_before = splats;
    __syncthreads();
  }
}

template <int GEOMETRY>
void blend_channels(const BlendGradParams& p, const PixelTotals& t, int first, int count,
                    void* stream) {
  const int tiles = p.forward.lists.tiles_x * p.forward.lists.tiles_y;
  const auto pass = [&](auto kernel, int channels) {
    launch("blend_backward", stream, tiles, TILE_THREADS, grad_bytes(channels, GEOMETRY), kernel, p,
           t, channel_grads(p, first, count), first, count);
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
