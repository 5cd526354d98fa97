// SPDX-License-Identifier: Apache-2.0
// Front to back over the splats of one patch: the weight of each at each of its pixels.
// Forward and backward run this same code, so they agree bit for bit on who contributes.
//
// Three short loops instead of one long one: only the transmittance passes from splat to splat, and
// a processor overlaps the splats of a loop only as far as its chains of dependent steps are short.
#pragma once

#include "../common/ellipsoid_math.h"
#include "../common/surfel_math.h"
#include "tile_batch.h"

namespace iqgs {
namespace IQGS_ISA {

// The pixels' options, with the first splat of the tile as the origin of mapped depths.
IQGS_INLINE PixelOptions tile_options(const BlendParams& p, int64_t first, int64_t last) {
  static const SplatRecord none = {};
  return pixel_options(p.camera, first < last ? p.records[p.lists.splat[first]] : none);
}

// What the pixels of a patch carry from splat to splat.
struct PixelState {
  FP transmittance;
  MaskP alive;  // in the image and not saturated
  FP depth, median_depth;
  DistortionSums<FP> sums;
  IP median;  // batch position of the splat that gave the median depth
};

IQGS_INLINE PixelState fresh_pixels(const MaskP& inside) {
  const FP zero(0.0f);
  return {FP(1.0f), inside, zero, zero, {zero, zero, zero}, IP(-1)};
}

// The contributing splats of a patch, in order. All but `id` are [n, PATCH], and zero where the
// splat misses the pixel.
struct PatchWeights {
  float* weight;
  int32_t* id;  // [n] position in the batch
  int count;
  float* alpha;  // the last VISITS only without geometry, as all below
  // Of flat splats, whose depth differs from pixel to pixel:
  float* mapped_depth;
  float* depth;
  // With geometry alone:
  float *u, *v;    // zero where the low-pass wins over the hit
  float* inverse;  // of flat splats: depth of the hit over that of the centre
  float* disc;     // of flat splats: 2 where the low-pass wins, else 0
};

constexpr int VISITS = 64;  // splats taken at a time

// What a caller of `weigh_patch` wants beside the weights.
struct WantsNothing {
  static constexpr bool GEOMETRY = false, IMAGES = false, MAPPED = false, MEDIAN = false;
};
struct WantsImages : WantsNothing {
  static constexpr bool IMAGES = true, MAPPED = true;
};
template <bool DISTORTION>
struct WantsGeometry : WantsNothing {
  static constexpr bool GEOMETRY = true, MAPPED = DISTORTION, MEDIAN = true;
};

// The arrays from where the next visit goes; without geometry the last visits alone are kept.
template <class Wants>
IQGS_INLINE PatchWeights tail_of(const PatchWeights& w) {
  const int64_t at = static_cast<int64_t>(w.count) * PATCH;
  PatchWeights r = w;
  r.weight += at;
  if (!Wants::GEOMETRY) return r;
  r.alpha += at;
  r.mapped_depth += at;
  r.inverse += at;
  r.u += at, r.v += at;
  r.disc += at;
  return r;
}

// The options, known to the compiler where they are the usual ones.
template <bool USUAL>
IQGS_INLINE PixelOptions known_options(const PixelOptions& o) {
  PixelOptions r = o;
  if (USUAL) r.center_depth = r.box_anchor = false;
  return r;
}

// Keeps what later loops read of a splat and its hits.
template <class Wants>
IQGS_INLINE void keep_hit(Surfel, const SplatRecord& splat, const Surfel::Hit<FP>& h,
                          const PixelOptions& o, const MaskP& hit, int64_t at,
                          const PatchWeights& out) {
  if (Wants::MAPPED)
    mapped_depth(Surfel::inverse_depth(splat, h, o), o).store(out.mapped_depth + at);
  if (Wants::IMAGES) zero_unless(hit, Surfel::depth(splat, h, o)).store(out.depth + at);
  if (Wants::GEOMETRY) {
    const MaskP low_pass = h.rho_disc < h.rho_hit;
    zero_unless(hit, h.inverse).store(out.inverse + at);
    zero_unless(hit & ~low_pass, h.u).store(out.u + at);
    zero_unless(hit & ~low_pass, h.v).store(out.v + at);
    zero_unless(low_pass, FP(2.0f)).store(out.disc + at);
  }
}

template <class Wants>
IQGS_INLINE void keep_hit(Ellipsoid, const SplatRecord&, const Ellipsoid::Hit<FP>& h,
                          const PixelOptions&, const MaskP& hit, int64_t at,
                          const PatchWeights& out) {
  if (!Wants::GEOMETRY) return;
  zero_unless(hit, h.u).store(out.u + at);
  zero_unless(hit, h.v).store(out.v + at);
}

// What a patch reports as depth of a splat, mapped for the distortion; `kept`: what was kept of it.
template <class Pixels>
IQGS_INLINE FP mapped_depth_of(const SplatRecord& s, const PixelOptions& o, const float* kept) {
  return Pixels::FLAT ? FP::load(kept) : mapped_depth(FP(s.inverse_depth), o);
}

// Appends the splats of `list` that touch a pixel; `alpha` holds the squared distance for now, -1
// where the pixel is missed. Returns their number.
template <class Pixels, class Wants, bool USUAL>
IQGS_PHASE int meet_splats(const SplatRecord* records, const int32_t* list, int count,
                           const PatchPixels& pixels, const PixelOptions& options,
                           const MaskP& alive, int32_t* ids, const PatchWeights& to) {
  const PixelOptions o = known_options<USUAL>(options);
  const PatchWeights out = to;  // copies stay in registers: nothing can point at them
  const MaskP open = alive;
  const FP px = pixels.px, py = pixels.py;
  int n = 0;
  for (int i = 0; i < count; ++i) {
    const int id = list[i];
    const SplatRecord& splat = records[id];
    const auto h = Pixels::intersect(splat, o, px, py);
    const MaskP hit = Pixels::inside(splat, h, o) & open;
    const int64_t at = static_cast<int64_t>(n) * PATCH;
    select(hit, Pixels::rho(h), FP(-1.0f)).store(out.alpha + at);
    keep_hit<Wants>(Pixels(), splat, h, o, hit, at, out);
    ids[n] = id;
    n += any(hit);
  }
  return n;
}

// From squared distances to alphas.
IQGS_PHASE void fade_splats(const SplatRecord* records, const int32_t* ids, int count,
                            float* alpha) {
  for (int i = 0; i < count; ++i, alpha += PATCH) {
    const FP rho = FP::load(alpha);
    zero_unless(rho >= FP(0.0f), splat_alpha(records[ids[i]], rho)).store(alpha);
  }
}

// From alphas to weights, and the sums on the way.
template <class Pixels, class Wants>
IQGS_PHASE void pass_light(const SplatRecord* records, const int32_t* ids, int count,
                           const PixelOptions& options, const PatchWeights& to, PixelState& state) {
  const FP zero(0.0f), limit(STOP_TRANSMITTANCE);
  const PatchWeights out = to;
  const PixelOptions o = options;
  FP light = state.transmittance, depth = state.depth, median_depth = state.median_depth;
  FP first = state.sums.first, second = state.sums.second;
  IP median = state.median;
  MaskP alive = state.alive;
  bool whole = true;  // no pixel of this call was saturated yet
  for (int i = 0; i < count; ++i) {
    const int64_t at = static_cast<int64_t>(i) * PATCH;
    FP alpha = FP::load(out.alpha + at);
    if (!whole) alpha = zero_unless(alive, alpha);
    FP w = alpha * light;
    FP next = light - w;
    const MaskP stop = next < limit;
    if (__builtin_expect(any(stop), 0)) {
      whole = false;
      alive = alive & ~stop;
      alpha = zero_unless(alive, alpha);
      w = alpha * light;
      next = light - w;
    }
    if (Wants::GEOMETRY && !whole) alpha.store(out.alpha + at);
    w.store(out.weight + at);
    if (Wants::IMAGES || Wants::MEDIAN) {
      const MaskP upper = (alpha > zero) & (light > FP(MEDIAN_TRANSMITTANCE));
      if (Wants::MEDIAN) median = select(upper, IP(ids[i]), median);
      if (Wants::IMAGES) {
        const FP z = Pixels::FLAT ? FP::load(out.depth + at) : FP(records[ids[i]].depth);
        median_depth = select(upper, z, median_depth);
        depth = fused(w, z, depth);
      }
    }
    if (Wants::MAPPED) {
      const FP m = mapped_depth_of<Pixels>(records[ids[i]], o, out.mapped_depth + at);
      const FP wm = w * m;
      first = first + wm;
      second = fused(wm, m, second);
    }
    light = next;
  }
  state = {light, alive, depth, median_depth, {FP(1.0f) - light, first, second}, median};
}

// Appends the splats of `list` that contribute, until all pixels are saturated.
template <class Pixels, class Wants>
IQGS_INLINE void weigh_patch(const TileBatch& b, const int32_t* list, int count,
                             const PatchPixels& pixels, const PixelOptions& o, PixelState& state,
                             PatchWeights& out) {
  const bool usual = !Pixels::FLAT || (!o.center_depth && !o.box_anchor);
  for (int i = 0; i < count && any(state.alive); i += VISITS) {
    const int visits = count - i < VISITS ? count - i : VISITS;
    int32_t* ids = out.id + out.count;
    const PatchWeights to = tail_of<Wants>(out);
    const auto meet = usual ? meet_splats<Pixels, Wants, true>
                            : meet_splats<Pixels, Wants, !Pixels::FLAT>;
    const int met = meet(b.records, list + i, visits, pixels, o, state.alive, ids, to);
    fade_splats(b.records, ids, met, to.alpha);
    pass_light<Pixels, Wants>(b.records, ids, met, o, to, state);
    out.count += met;
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
