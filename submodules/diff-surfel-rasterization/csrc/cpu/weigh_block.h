// SPDX-License-Identifier: Apache-2.0
// Front to back over the splats of one 4x4 block: the weight of each at each of sixteen pixels.
// Forward and backward run this same code, so they agree bit for bit on who contributes.
#pragma once

#include "../common/surfel_math.h"
#include "tile_batch.h"

namespace iqgs {
namespace IQGS_ISA {

// The pixels' options, with the first splat of the tile as the origin of mapped depths.
IQGS_INLINE PixelOptions tile_options(const BlendParams& p, int64_t first, int64_t last) {
  static const SplatRecord none = {};
  return pixel_options(p.camera, first < last ? p.records[p.lists.splat[first]] : none);
}

// What sixteen pixels carry from splat to splat.
struct PixelState {
  F16 transmittance;
  Mask alive;  // in the image and not saturated
  F16 depth, median_depth;
  DistortionSums<F16> sums;
  I16 median;  // batch position of the splat that gave the median depth
};

IQGS_INLINE PixelState fresh_pixels(Mask inside) {
  const F16 zero(0.0f);
  return {F16(1.0f), inside, zero, zero, {zero, zero, zero}, I16(-1)};
}

// The contributing splats of a block, in order.
struct BlockWeights {
  float* weight;  // [n, LANES]
  float* alpha;   // [n, LANES]; null where not wanted
  int32_t* id;    // [n] position in the batch
  int count;
};

// The sums that only the images need. See `weigh_block`.
struct ImageTerms {
  static IQGS_INLINE void add(const SplatRecord& splat, const Hit<F16>& h, const PixelOptions& o,
                              const F16& w, Mask hit, int, PixelState& s) {
    F16 z = zero_unless(hit, hit_depth(splat, h, o));
    Mask upper = hit & (s.transmittance > F16(MEDIAN_TRANSMITTANCE));
    s.median_depth = select(upper, z, s.median_depth);
    s.depth = fused(w, z, s.depth);
    s.sums.add(w, mapped_depth(hit_inverse_depth(splat, h, o), o));
  }
};

// The totals that the backward pass needs before it turns round.
template <bool DEPTH, bool DISTORTION>
struct TotalTerms {
  static IQGS_INLINE void add(const SplatRecord& splat, const Hit<F16>& h, const PixelOptions& o,
                              const F16& w, Mask hit, int id, PixelState& s) {
    if (DEPTH) {
      Mask upper = hit & (s.transmittance > F16(MEDIAN_TRANSMITTANCE));
      s.median = select(upper, I16(id), s.median);
    }
    if (DISTORTION) s.sums.add(w, mapped_depth(hit_inverse_depth(splat, h, o), o));
  }
};

struct NoTerms {
  static IQGS_INLINE void add(const SplatRecord&, const Hit<F16>&, const PixelOptions&, const F16&,
                              Mask, int, PixelState&) {}
};

// Appends the splats of `list` that contribute; `Terms` says what else is summed on the way.
template <class Terms>
IQGS_PHASE void weigh_block(const TileBatch& b, const int32_t* list, int count,
                            const BlockPixels& pixels, const PixelOptions& o, PixelState& state,
                            BlockWeights& out) {
  PixelState s = state;
  const F16 px = pixels.px, py = pixels.py, limit(STOP_TRANSMITTANCE);
  float* weights = out.weight + LANES * out.count;
  float* alphas = out.alpha ? out.alpha + LANES * out.count : nullptr;
  int32_t* ids = out.id + out.count;
  bool open = true;
  for (int i = 0; i < count && open; ++i) {
    const int id = list[i];
    const SplatRecord& splat = b.records[id];
    Hit<F16> h = intersect(splat, o, px, py);
    Mask hit = inside(splat, h, o) & s.alive;
    if (!any(hit)) continue;

    // Lanes that are not hit, or saturated before, have alpha 0: T stays as it is.
    F16 alpha = zero_unless(hit, splat_alpha(splat, h));
    F16 w = alpha * s.transmittance;
    F16 next = s.transmittance - w;
    Mask stop = next < limit;
    if (any(stop)) {
      s.alive = s.alive & ~stop;
      hit = hit & ~stop;
      alpha = zero_unless(hit, alpha);
      w = alpha * s.transmittance;
      next = s.transmittance - w;
      open = any(s.alive);
    }
    w.store(weights);
    weights += LANES;
    if (alphas) {
      alpha.store(alphas);
      alphas += LANES;
    }
    *ids++ = id;
    Terms::add(splat, h, o, w, hit, id, s);
    s.transmittance = next;
  }
  s.sums.weight = F16(1.0f) - s.transmittance;
  out.count = static_cast<int>(ids - out.id);
  state = s;
}

}  // namespace IQGS_ISA
}  // namespace iqgs
