// SPDX-License-Identifier: Apache-2.0
// Front to back over the splats of one 4x4 block: the weight of each at each of sixteen pixels.
// Forward and backward run this same code, so they agree bit for bit on who contributes.
#pragma once

#include "../common/surfel_math.h"
#include "tile_batch.h"

namespace iqgs {
namespace IQGS_ISA {

// What sixteen pixels carry from splat to splat.
struct PixelState {
  F16 transmittance;
  Mask alive;  // in the image and not saturated
  F16 depth, median_depth, distortion;
  DistortionSums<F16> sums;
  I16 median;  // list position of the splat that gave the median depth
};

IQGS_INLINE PixelState fresh_pixels(Mask inside) {
  const F16 zero(0.0f);
  return {F16(1.0f), inside, zero, zero, zero, {zero, zero, zero}, I16(-1)};
}

// The contributing splats of a block, in order.
struct BlockWeights {
  float* weight;  // [n, LANES]
  float* alpha;   // [n, LANES]; null where not wanted
  int32_t* id;    // [n] position in the batch
  int count;
};

// The images that only the forward pass needs. See `weigh_block`.
struct ImageTerms {
  static IQGS_INLINE void add(const F16& w, const F16& z, Mask hit, int, const DepthRange& range,
                              PixelState& s) {
    Mask upper = hit & (s.transmittance > F16(MEDIAN_TRANSMITTANCE));
    s.median_depth = select(upper, z, s.median_depth);
    s.depth = fused(w, z, s.depth);
    s.distortion = s.distortion + s.sums.step(w, mapped_depth(z, range));
  }
};

// The totals that the backward pass needs before it turns round.
template <bool DISTORTION>
struct TotalTerms {
  static IQGS_INLINE void add(const F16& w, const F16& z, Mask hit, int id,
                              const DepthRange& range, PixelState& s) {
    Mask upper = hit & (s.transmittance > F16(MEDIAN_TRANSMITTANCE));
    s.median = select(upper, I16(id), s.median);
    if (DISTORTION) s.sums.step(w, mapped_depth(z, range));
  }
};

struct NoTerms {
  static IQGS_INLINE void add(const F16&, const F16&, Mask, int, const DepthRange&, PixelState&) {}
};

// Appends the splats of `list` that contribute; `Terms` says what else is summed on the way.
template <class Terms>
IQGS_INLINE void weigh_block(const TileBatch& b, const int32_t* list, int count,
                             const BlockPixels& pixels, const DepthRange& range, PixelState& s,
                             BlockWeights& out) {
  const F16 one(1.0f), zero(0.0f);
  for (int i = 0; i < count; ++i) {
    const int id = list[i];
    const SplatRecord& splat = b.records[id];
    Hit<F16> h = intersect(splat, range, pixels.px, pixels.py);
    Mask hit = inside(splat, h, range) & s.alive;
    if (!any(hit)) continue;

    F16 alpha = splat_alpha(splat, h);
    F16 w = alpha * s.transmittance;
    F16 next = s.transmittance - w;
    Mask stop = hit & (next < F16(STOP_TRANSMITTANCE));
    hit = hit & ~stop;
    w = select(hit, w, zero);
    w.store(out.weight + LANES * out.count);
    if (out.alpha) select(hit, alpha, zero).store(out.alpha + LANES * out.count);
    out.id[out.count++] = id;

    F16 z = select(hit, hit_depth(splat, h, range), one);
    Terms::add(w, z, hit, id, range, s);
    s.transmittance = select(hit, next, s.transmittance);
    if (!any(stop)) continue;
    s.alive = s.alive & ~stop;
    if (!any(s.alive)) return;
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
