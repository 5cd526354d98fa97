// SPDX-License-Identifier: Apache-2.0
// One tile of the gradients. Per patch: weights front to back, <row, dL/dpixel> per splat by a
// matrix product, then back to front with one scalar per pixel, the light that is still behind.
// Every sum has a fixed order, and every pair writes its own row: no locks, no atomics.
#pragma once

#include "image_grads.h"

namespace iqgs {
namespace IQGS_ISA {

// Depth of a splat at the pixels of a patch, from what was kept at `at`.
IQGS_INLINE FP depth_of(Surfel, const SplatRecord& splat, const PixelOptions& o,
                        const PatchWeights& from, int64_t at) {
  const FP center(splat.depth);
  const FP z = center * FP::load(from.inverse + at);
  if (!o.center_depth) return z;
  return select(FP::load(from.disc + at) > FP(0.0f), center, z);
}

IQGS_INLINE FP depth_of(Ellipsoid, const SplatRecord& splat, const PixelOptions&,
                        const PatchWeights&, int64_t) {
  return FP(splat.depth);
}

// Back to front over the contributing splats: dL/dw and dL/dz of each, from which `linear` becomes
// alpha dL/dalpha (zero where clamped) and `alpha` becomes dL/dz. WILD: some lanes are; then both
// are zero where the splat misses the pixel, whatever its gradient.
template <class Pixels, bool DEPTH, bool DISTORTION, bool WILD>
IQGS_PHASE void descend(const PixelOptions& o, const PixelState& state, const PixelGrad& g,
                        const BackwardSpace& s) {
  const FP zero(0.0f), one(1.0f);
  const PatchWeights& from = s.patch;
  FP rest = state.transmittance * g.behind;
  for (int i = from.count - 1; i >= 0; --i) {
    const int64_t at = static_cast<int64_t>(i) * PATCH;
    const FP w = FP::load(from.weight + at), alpha = FP::load(from.alpha + at);
    FP linear = FP::load(s.linear + at);
    FP depth_term = zero;
    if (DEPTH) {
      const FP z = depth_of(Pixels(), s.batch.records[from.id[i]], o, from, at);
      linear = fused(g.depth, z, linear);
      depth_term = w * g.depth;
    }
    if (DISTORTION) {
      const SplatRecord& splat = s.batch.records[from.id[i]];
      const FP mapped = mapped_depth_of<Pixels>(splat, o, from.mapped_depth + at);
      const FP below = FP(o.shift) - mapped;  // k / z
      linear = fused(g.distortion, state.sums.weight_slope(mapped), linear);
      const FP slope = below * below * FP(1.0f / o.distortion);
      depth_term = fused(g.distortion * state.sums.depth_slope(w, mapped), slope, depth_term);
    }
    if (WILD) linear = zero_unless(alpha > zero, linear);
    if (WILD && DEPTH) depth_term = zero_unless(alpha > zero, depth_term);
    // alpha dL/dalpha = w dL/dw - alpha / (1 - alpha) (what lies behind).
    const FP lit = w * linear;
    FP alpha_term = lit - rest * (alpha * reciprocal(one - alpha));
    if (WILD) alpha_term = zero_unless(alpha > zero, alpha_term);
    zero_unless(alpha < FP(MAX_ALPHA), alpha_term).store(s.linear + at);
    if (DEPTH) depth_term.store(from.alpha + at);
    rest = rest + lit;
  }
}

// The median depth of a pixel is that of one splat.
IQGS_PHASE void add_median(const PixelState& state, const FP& grad, const PatchWeights& to) {
  for (int i = 0; i < to.count; ++i) {
    float* depth_term = to.alpha + static_cast<int64_t>(i) * PATCH;
    const MaskP median = equal(state.median, IP(to.id[i]));
    (FP::load(depth_term) + zero_unless(median, grad)).store(depth_term);
  }
}

// What is summed of the screen signal's absolute terms. In the moments' own sums there is room for
// it where nobody asks for the signed signal as well, which needs M_HIT_DEPTH.
enum class Absolute { NONE, IN_PASSING, BESIDE };

template <class Pixels>
IQGS_INLINE Absolute absolute_sums(const BlendGradParams& p) {
  if (!p.absolute) return Absolute::NONE;
  return Pixels::FLAT && p.signed_too ? Absolute::BESIDE : Absolute::IN_PASSING;
}

// |screen signal| of the pixels of a patch, as `Surfel::screen_signal` by fewer operations.
IQGS_INLINE ScreenSignal<FP> absolute_signal(const SplatRecord& r, const PatchPixels& pixels,
                                             const PatchMoments& g, const FP* hit_depth) {
  const FP dx = pixels.px - FP(r.x), dy = pixels.py - FP(r.y);
  const FP j1(r.a * r.f - r.b * r.e), j2(r.d * r.e - r.c * r.f);
  const FP u = g.of[RAW_U], v = g.of[RAW_V];
  FP x = fused(u, fused(j1, dy, FP(r.a)), v * (FP(r.c) - j2 * dy));
  FP y = fused(u, FP(r.b) - j1 * dx, v * fused(j2, dx, FP(r.d)));
  if (hit_depth) {
    x = x - FP(r.e * r.depth) * *hit_depth;
    y = y - FP(r.f * r.depth) * *hit_depth;
  }
  return {magnitude(x), magnitude(y)};
}

// Adds the moments of each contributing splat to its row. See `vjp` of its kind.
template <bool DEPTH, Absolute ABSOLUTE>
IQGS_PHASE void add_patch_moments(Surfel, const PatchPixels& pixels, const PixelOptions& o,
                                  const BackwardSpace& s) {
  constexpr bool IN_PASSING = ABSOLUTE == Absolute::IN_PASSING;
  const FP zero(0.0f), px = pixels.px - FP(MIDDLE), py = pixels.py - FP(MIDDLE);
  const PatchWeights& from = s.patch;
  for (int i = 0; i < from.count; ++i) {
    const int64_t at = static_cast<int64_t>(i) * PATCH;
    const int64_t id = from.id[i];
    const FP alpha_term = FP::load(s.linear + at), inverse = FP::load(from.inverse + at);
    const FP u = FP::load(from.u + at), v = FP::load(from.v + at), disc = FP::load(from.disc + at);
    const FP through_hit = -(alpha_term * inverse);
    PatchMoments m;
    m.of[RAW_U] = through_hit * u;
    m.of[RAW_V] = through_hit * v;
    m.of[RAW_ANCHOR] = alpha_term * disc;
    m.rest[0] = alpha_term, m.rest[1] = m.rest[2] = m.rest[3] = zero;
    FP by_ratio = fused(m.of[RAW_U], u, m.of[RAW_V] * v), hit_depth;
    if (DEPTH) {
      const MaskP low_pass = disc > zero;
      const FP depth_term = FP::load(from.alpha + at);
      const FP plane = inverse * depth_term;
      m.rest[1] = plane;
      m.rest[2] = hit_depth = select(low_pass, zero, plane);
      if (o.center_depth) m.rest[1] = select(low_pass, depth_term, plane);
      const FP to_plane = o.center_depth ? hit_depth : plane;
      by_ratio = fused(to_plane * inverse, FP(s.batch.records[id].depth), by_ratio);
    }
    m.of[RAW_W] = -by_ratio;
    if (ABSOLUTE != Absolute::NONE) {
      const ScreenSignal<FP> signal =
          absolute_signal(s.batch.records[id], pixels, m, DEPTH ? &hit_depth : nullptr);
      if (IN_PASSING) {
        m.rest[2] = signal.x, m.rest[3] = signal.y;
      } else {
        s.absolute[2 * id] += lane_sum(signal.x);
        s.absolute[2 * id + 1] += lane_sum(signal.y);
      }
    }
    constexpr int RESTS = IN_PASSING ? 4 : DEPTH ? 3 : 1;
    add_moments<RESTS>(m, px, py, s.moments + id * RAW_FLOATS);
  }
}

template <bool DEPTH, Absolute ABSOLUTE>
IQGS_PHASE void add_patch_moments(Ellipsoid, const PatchPixels& pixels, const PixelOptions&,
                                  const BackwardSpace& s) {
  constexpr bool SIGNAL = ABSOLUTE != Absolute::NONE;
  const FP px = pixels.px - FP(MIDDLE), py = pixels.py - FP(MIDDLE);
  const PatchWeights& from = s.patch;
  for (int i = 0; i < from.count; ++i) {
    const int64_t at = static_cast<int64_t>(i) * PATCH;
    const int64_t id = from.id[i];
    const FP alpha_term = FP::load(s.linear + at);
    EllipsoidMoments m;
    m.u = -(alpha_term * FP::load(from.u + at));
    m.v = -(alpha_term * FP::load(from.v + at));
    m.alpha = alpha_term;
    m.depth = DEPTH ? FP::load(from.alpha + at) : FP(0.0f);
    if (SIGNAL) {
      const SplatRecord& r = s.batch.records[id];
      m.signal_x = magnitude(FP(r.a) * m.u);
      m.signal_y = magnitude(fused(FP(r.b), m.u, FP(r.d) * m.v));
    }
    add_moments<SIGNAL>(m, px, py, s.moments + id * RAW_FLOATS);
  }
}

// What `spread_channels` adds, for the wild lanes of patch k alone.
IQGS_PHASE void spread_wild(const BlendGradParams& p, int k, uint32_t wild,
                            const BackwardSpace& s) {
  const float* grads = s.channels(k);
  for (int i = 0; i < s.patch.count; ++i) {
    float* row = s.grads + static_cast<int64_t>(s.patch.id[i]) * s.wide;
    for (uint32_t lanes = wild; lanes; lanes &= lanes - 1) {
      const int j = __builtin_ctz(lanes);
      const float weight = s.patch.weight[static_cast<int64_t>(i) * PATCH + j];
      if (!(weight > 0.0f)) continue;
      for (int c = 0; c < p.channel_count; ++c) row[c] += weight * grads[PATCH * c + j];
    }
  }
}

// Whether a gradient comes through the depths of pixels.
IQGS_INLINE bool wants_depth(const BlendGradParams& p) {
  return p.depth || p.median_depth || p.distortion;
}

// Copies the finished gradients of the tile to their rows: whole cache lines, past the cache.
template <class Pixels>
IQGS_PHASE void write_rows(const BlendGradParams& p, int64_t first, int64_t last, int used,
                           const BackwardSpace& s) {
  const F16 zero(0.0f);
  const int moments = p.geometry ? MOMENT_FLOATS : 0;
  const Absolute absolute = absolute_sums<Pixels>(p);
  alignas(64) float m[MOMENT_FLOATS];
  for (int64_t i = first; i < last; ++i) {
    float* row = p.rows + static_cast<int64_t>(p.forward.lists.row[i]) * p.row_floats;
    const int64_t at = i - first;
    if (at >= used) {
      for (int c = 0; c < p.row_floats; c += LANES) zero.stream(row + c);
      continue;
    }
    if (p.geometry) {
      const float* const raw = s.moments + at * RAW_FLOATS;
      const float* const sums = absolute == Absolute::NONE         ? nullptr
                                : absolute == Absolute::IN_PASSING ? raw + RAW_ABSOLUTE
                                                                   : s.absolute + 2 * at;
      finish_moments(Pixels(), s.batch.records[at], raw, sums, wants_depth(p), m);
      F16::load(m).stream(row);
    }
    const float* grad = s.grads + at * s.wide;
    for (int c = 0; c < s.wide; c += LANES) F16::load(grad + c).stream(row + moments + c);
  }
  finish_streams();
}

// The phases of one patch, for the gradients that there are.
template <class Pixels, bool DEPTH, bool DISTORTION>
IQGS_INLINE void geometry_patch(const BlendGradParams& p, int k, const PatchPixels& pixels,
                                const PixelOptions& o, const PixelGrad& g, BackwardSpace& s) {
  const int32_t* list = s.batch.lists + static_cast<int64_t>(k) * s.batch.list_stride;
  PixelState state = fresh_pixels(pixels.inside);
  weigh_patch<Pixels, WantsGeometry<DISTORTION>>(s.batch, list, s.batch.count[k], pixels, o, state,
                                         s.patch);
  contract_channels(p.channel_count, s.linear, s.channels(k), s.batch.rows + p.first_channel,
                    s.batch.row_stride, s.patch);
  (g.wild ? descend<Pixels, DEPTH, DISTORTION, true>
          : descend<Pixels, DEPTH, DISTORTION, false>)(o, state, g, s);
  if (DEPTH && p.median_depth) add_median(state, g.median_depth, s.patch);
  const Absolute absolute = absolute_sums<Pixels>(p);
  if (absolute == Absolute::NONE)
    add_patch_moments<DEPTH, Absolute::NONE>(Pixels(), pixels, o, s);
  else if (absolute == Absolute::IN_PASSING)
    add_patch_moments<DEPTH, Absolute::IN_PASSING>(Pixels(), pixels, o, s);
  else
    add_patch_moments<DEPTH, Absolute::BESIDE>(Pixels(), pixels, o, s);
}

template <class Pixels>
IQGS_INLINE void backward_patch(const BlendGradParams& p, int tile, int k, const PixelOptions& o,
                                BackwardSpace& s) {
  PatchPixels pixels = patch_pixels(p.forward, tile, k);
  const PixelGrad g = take_grads(p, k, s);
  if (g.nothing) return;
  s.patch.count = 0;
  if (!p.geometry) {
    const int32_t* list = s.batch.lists + static_cast<int64_t>(k) * s.batch.list_stride;
    PixelState state = fresh_pixels(pixels.inside);
    weigh_patch<Pixels, WantsNothing>(s.batch, list, s.batch.count[k], pixels, o, state, s.patch);
  } else if (p.distortion) {
    geometry_patch<Pixels, true, true>(p, k, pixels, o, g, s);
  } else if (wants_depth(p)) {
    geometry_patch<Pixels, true, false>(p, k, pixels, o, g, s);
  } else {
    geometry_patch<Pixels, false, false>(p, k, pixels, o, g, s);
  }
  spread_channels(p.channel_count, s.panels, s.grads, s.wide, s.patch);
  if (g.wild) spread_wild(p, k, g.wild, s);
}

template <class Pixels>
void blend_backward(const BlendGradParams& p, int tile, Arena& arena) {
  const TileLists& lists = p.forward.lists;
  const int64_t first = lists.start[tile], last = lists.start[tile + 1];
  if (first == last) return;
  const int used = lists.used[tile];
  const PixelOptions o = tile_options(p.forward, first, last);
  BackwardSpace s = backward_space(p, used, arena);
  load_splats(p.forward, first, used, p.geometry, false, tile_origin(lists, tile), s.batch);
  __builtin_memcpy(s.batch.masks, lists.mask + first, sizeof(uint32_t) * used);
  list_patches(s.batch, used, EVERY_PATCH);
  __builtin_memset(s.grads, 0, sizeof(float) * s.wide * used);
  __builtin_memset(s.moments, 0, sizeof(float) * RAW_FLOATS * used);
  __builtin_memset(s.absolute, 0, sizeof(float) * 2 * used);
  load_grads(p, tile, s);
  const int64_t left = lists.start[lists.tiles_x * lists.tiles_y] - last;
  const int ahead = static_cast<int>(left < FETCHED ? left : FETCHED);
  for (int k = 0; k < PATCHES; ++k) {
    fetch_ahead(p.forward, last, ahead, k, PATCHES, false);
    fetch_grads(p, tile + 1, k);
    if (s.batch.count[k]) backward_patch<Pixels>(p, tile, k, o, s);
  }
  write_rows<Pixels>(p, first, last, used, s);
}

}  // namespace IQGS_ISA
}  // namespace iqgs
