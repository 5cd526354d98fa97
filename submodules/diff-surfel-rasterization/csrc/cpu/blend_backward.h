// SPDX-License-Identifier: Apache-2.0
// One tile of the gradients. Per block: weights front to back, <row, dL/dpixel> per splat by a
// matrix product, then back to front with one scalar per pixel, the light that is still behind.
// Every sum has a fixed order, and every pair writes its own row: no locks, no atomics.
#pragma once

#include "channel_products.h"

namespace iqgs {
namespace IQGS_ISA {

// Image gradients of sixteen pixels.
struct PixelGrad {
  F16 behind;  // d L / d(final transmittance)
  F16 depth, median_depth, distortion;
};

struct BackwardSpace {
  TileBatch batch;
  BlockWeights block;
  float* linear;    // [n, LANES] <row, dL/dchannels> of each splat of the block
  float* channels;  // [padded channels, LANES] dL/dchannels of the block
  float* pixels;    // [LANES, padded channels] the same, transposed
  float* grads;     // [n, grad_stride] MOMENTS sums, then channels
  int grad_stride;
};

constexpr int MOMENT_FLOATS = LANES;  // one vector
static_assert(MOMENTS == MOMENT_FLOATS, "the moments of a splat fill one vector");

IQGS_INLINE BackwardSpace backward_space(const BlendGradParams& p, int count, Arena& arena) {
  const int n = padded(count), wide = padded(p.channel_count);
  const int channels = SHADE_CHANNELS + p.forward.feature_count;
  BackwardSpace s;
  s.grad_stride = MOMENT_FLOATS + wide;
  const size_t bytes = batch_bytes(n, channels) + static_cast<size_t>(n) * (3 * 64 + 4) +
                       static_cast<size_t>(wide) * 128 +
                       static_cast<size_t>(n) * s.grad_stride * 4 + 1024;
  Carver carver = {static_cast<char*>(arena.reserve(bytes))};
  s.batch = carve_batch(carver, n, channels);
  s.block = {carver.take<float>(LANES * n), carver.take<float>(LANES * n), carver.take<int32_t>(n),
             0};
  s.linear = carver.take<float>(LANES * n);
  s.channels = carver.take<float>(static_cast<size_t>(wide) * LANES);
  s.pixels = carver.take<float>(static_cast<size_t>(wide) * LANES);
  s.grads = carver.take<float>(static_cast<size_t>(n) * s.grad_stride);
  return s;
}

// Gathers the image gradients of a block; false where all are zero.
IQGS_PHASE bool load_grads(const BlendGradParams& p, const BlockPixels& pixels, BackwardSpace& s,
                           PixelGrad& g) {
  const BlendParams& f = p.forward;
  const int64_t plane = static_cast<int64_t>(f.camera.width) * f.camera.height;
  const int wide = padded(p.channel_count);
  g.depth = load_block(f, pixels, p.depth);
  g.median_depth = load_block(f, pixels, p.median_depth);
  g.distortion = load_block(f, pixels, p.distortion);
  g.behind = -load_block(f, pixels, p.alpha);
  F16 size = magnitude(g.depth) + magnitude(g.median_depth) + magnitude(g.distortion) +
             magnitude(g.behind);
  for (int i = 0; i < p.channel_count; ++i) {
    int c = p.first_channel + i;
    const float* in = nullptr;
    if (c < 3)
      in = p.normal ? p.normal + c * plane : nullptr;
    else if (c < SHADE_CHANNELS)
      in = p.color ? p.color + (c - 3) * plane : nullptr;
    else
      in = p.feature ? p.feature + (c - SHADE_CHANNELS) * plane : nullptr;
    F16 value = load_block(f, pixels, in);
    if (c >= 3 && c < SHADE_CHANNELS) g.behind = fused(value, F16(f.background[c - 3]), g.behind);
    size = size + magnitude(value);
    value.store(s.channels + LANES * i);
  }
  // Rounded up to four channels: what lies past the last one is never read.
  for (int i = 0; i < p.channel_count; i += 4)
    for (int j = 0; j < LANES; j += 4)
      transpose_four(s.channels + LANES * i + j, LANES, s.pixels + j * wide + i, wide);
  return any(size > F16(0.0f));
}

template <bool ABSOLUTE>
IQGS_INLINE void set_moments(const SplatRecord& r, const Hit<F16>& h, const HitGrad<F16>& g,
                             const F16& alpha_term, F16* m) {
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
  m[M_ABS_X] = m[M_ABS_Y] = F16(0.0f);
  if (!ABSOLUTE) return;
  ScreenSignal<F16> signal =
      screen_signal(F16(r.a), F16(r.b), F16(r.c), F16(r.d), F16(r.e), F16(r.f), F16(r.depth), m);
  m[M_ABS_X] = magnitude(signal.x);
  m[M_ABS_Y] = magnitude(signal.y);
}

// Back to front over the contributing splats: adds the moments of each to its gradient row.
template <bool DEPTH, bool DISTORTION, bool ABSOLUTE>
void descend(const BlockPixels& pixels, const PixelOptions& o, const PixelState& state,
             const PixelGrad& g, const BackwardSpace& s) {
  const F16 zero(0.0f), one(1.0f);
  const F16 px = pixels.px, py = pixels.py;
  constexpr int GROUPS = DEPTH || ABSOLUTE ? 4 : 3;
  F16 rest = state.transmittance * g.behind;
  for (int i = s.block.count - 1; i >= 0; --i) {
    const int id = s.block.id[i];
    const SplatRecord& splat = s.batch.records[id];
    const F16 w = F16::load(s.block.weight + LANES * i);
    const F16 alpha = F16::load(s.block.alpha + LANES * i);
    const Mask hit = alpha > zero;
    Hit<F16> h = intersect(splat, o, px, py);
    h.u = zero_unless(hit, h.u);
    h.v = zero_unless(hit, h.v);
    h.inverse = zero_unless(hit, h.inverse);

    // dL/dw and dL/dz.
    F16 linear = F16::load(s.linear + LANES * i);
    F16 depth_term = zero;
    if (DEPTH) {
      linear = fused(g.depth, hit_depth(splat, h, o), linear);
      depth_term = w * g.depth;
      Mask median = equal(state.median, I16(id));
      depth_term = depth_term + zero_unless(median, g.median_depth);
    }
    if (DISTORTION) {
      F16 inverse_depth = hit_inverse_depth(splat, h, o);
      F16 mapped = mapped_depth(inverse_depth, o);
      linear = fused(g.distortion, state.sums.weight_slope(mapped), linear);
      depth_term = fused(g.distortion * state.sums.depth_slope(w, mapped),
                         mapped_depth_slope(inverse_depth, o), depth_term);
    }

    // alpha dL/dalpha = w dL/dw - alpha / (1 - alpha) (what lies behind).
    F16 lit = w * linear;
    F16 alpha_term = lit - rest * alpha * reciprocal(one - alpha);
    alpha_term = zero_unless(alpha < F16(MAX_ALPHA), alpha_term);
    rest = rest + lit;

    HitGrad<F16> grad = hit_vjp<DEPTH>(splat, h, o, alpha_term, depth_term);
    F16 m[MOMENT_FLOATS];
    set_moments<ABSOLUTE>(splat, h, grad, alpha_term, m);
    add_lane_sums<GROUPS>(m, s.grads + static_cast<int64_t>(id) * s.grad_stride);
  }
}

// Copies the finished gradients of the tile to their rows: whole cache lines, past the cache.
IQGS_PHASE void write_rows(const BlendGradParams& p, int64_t first, int64_t last, int used,
                           const BackwardSpace& s) {
  const int skip = p.geometry ? 0 : MOMENT_FLOATS;
  const F16 zero(0.0f);
  for (int64_t i = first; i < last; ++i) {
    float* row = p.rows + static_cast<int64_t>(p.forward.lists.row[i]) * p.row_floats;
    const float* grad = s.grads + (i - first) * s.grad_stride + skip;
    const bool seen = i - first < used;
    for (int c = 0; c < p.row_floats; c += LANES)
      (seen ? F16::load(grad + c) : zero).stream(row + c);
  }
  finish_streams();
}

// The phases of one block, for the gradients that there are.
template <bool DEPTH, bool DISTORTION>
IQGS_INLINE void geometry_block(const BlendGradParams& p, int k, const BlockPixels& pixels,
                                const PixelOptions& o, const PixelGrad& g, BackwardSpace& s) {
  const int32_t* list = s.batch.lists + static_cast<int64_t>(k) * s.batch.list_stride;
  PixelState state = fresh_pixels(pixels.inside);
  weigh_block<TotalTerms<DEPTH, DISTORTION>>(s.batch, list, s.batch.count[k], pixels, o, state,
                                             s.block);
  contract_channels(p.channel_count, s.linear, s.channels, s.batch.rows + p.first_channel,
                    s.batch.row_stride, s.block);
  if (p.absolute)
    descend<DEPTH, DISTORTION, true>(pixels, o, state, g, s);
  else
    descend<DEPTH, DISTORTION, false>(pixels, o, state, g, s);
}

IQGS_INLINE void backward_block(const BlendGradParams& p, int tile, int k, const PixelOptions& o,
                                BackwardSpace& s) {
  BlockPixels pixels = block_pixels(p.forward, tile, k);
  PixelGrad g;
  if (!load_grads(p, pixels, s, g)) return;
  s.block.count = 0;
  if (!p.geometry) {
    const int32_t* list = s.batch.lists + static_cast<int64_t>(k) * s.batch.list_stride;
    PixelState state = fresh_pixels(pixels.inside);
    weigh_block<NoTerms>(s.batch, list, s.batch.count[k], pixels, o, state, s.block);
  } else if (p.distortion) {
    geometry_block<true, true>(p, k, pixels, o, g, s);
  } else if (p.depth || p.median_depth) {
    geometry_block<true, false>(p, k, pixels, o, g, s);
  } else {
    geometry_block<false, false>(p, k, pixels, o, g, s);
  }
  spread_channels(p.channel_count, s.pixels, padded(p.channel_count), s.grads + MOMENT_FLOATS,
                  s.grad_stride, s.block);
}

void blend_backward(const BlendGradParams& p, int tile, Arena& arena) {
  const TileLists& lists = p.forward.lists;
  const int64_t first = lists.start[tile], last = lists.start[tile + 1];
  if (first == last) return;
  const int used = lists.used[tile];
  const PixelOptions o = tile_options(p.forward, first, last);
  BackwardSpace s = backward_space(p, used, arena);
  load_splats(p.forward, first, used, p.geometry, false, tile_origin(lists, tile), s.batch);
  __builtin_memcpy(s.batch.masks, lists.mask + first, sizeof(uint16_t) * used);
  list_blocks(s.batch, used, 0xffffu);
  __builtin_memset(s.grads, 0, sizeof(float) * s.grad_stride * used);
  for (int k = 0; k < BLOCKS_PER_TILE; ++k)
    if (s.batch.count[k]) backward_block(p, tile, k, o, s);
  write_rows(p, first, last, used, s);
}

}  // namespace IQGS_ISA
}  // namespace iqgs
