// SPDX-License-Identifier: Apache-2.0
// From the gradients of pixels to the sums that the projection's derivative asks for (Moment).
#pragma once

#include "weigh_patch.h"

namespace iqgs {
namespace IQGS_ISA {

// While a tile is summed, a splat's moments are those about the middle of the tile: a moment about
// the splat's own centre (dx = px - x) is one about the middle less x times the plain sum. Four
// numbers each, in the order of RawMoment.
enum RawMoment { RAW_SUM, RAW_Y, RAW_X, RAW_REST };
enum RawColumn { RAW_U, RAW_V, RAW_W, RAW_ANCHOR };  // of the first three
// Of an ellipsoid, whose first row is all that it has beside the first two columns of the next two.
enum EllipsoidColumn { RAW_ALPHA = RAW_W, RAW_DEPTH = RAW_ANCHOR };
constexpr int RAW_FLOATS = 16;
// Where the absolute signal is summed in passing: in the last two of RAW_REST.
constexpr int RAW_ABSOLUTE = 4 * RAW_REST + 2;
constexpr float MIDDLE = 0.5f * TILE;

// Gradients of the pixels of a patch with respect to one splat.
struct PatchMoments {
  FP of[4];    // dL/du / ratio, dL/dv / ratio, dL/dratio, dL/d(distance to the anchor)
  FP rest[4];  // alpha dL/dalpha, dL/d(depth of the centre), then M_HIT_DEPTH or the signal
};

// Sums over the lanes, added to a row of RAW_FLOATS.
template <int RESTS>
IQGS_INLINE void add_moments(const PatchMoments& m, const FP& px, const FP& py, float* row) {
  NativeF sum, by_y, by_x, rest;
  const FP* q = m.of;
#pragma GCC unroll 2
  for (int p = 0; p < PATCH_PARTS; ++p) {
    const NativeF s = sum_four(q[0].v[p], q[1].v[p], q[2].v[p], q[3].v[p]);
    const NativeF x = px.v[p];
    const NativeF sx = sum_four(q[0].v[p] * x, q[1].v[p] * x, q[2].v[p] * x, q[3].v[p] * x);
    // A quad of lanes is a row of pixels: they share y.
    const NativeF sy = s * py.v[p];
    const NativeF nothing = {};
    const NativeF r = RESTS == 1
                          ? sum_first(m.rest[0].v[p])
                          : sum_four(m.rest[0].v[p], m.rest[1].v[p], m.rest[2].v[p],
                                     RESTS == 4 ? m.rest[3].v[p] : nothing);
    sum = p ? sum + s : s;
    by_y = p ? by_y + sy : sy;
    by_x = p ? by_x + sx : sx;
    rest = p ? rest + r : r;
  }
  add_quads(sum, by_y, by_x, rest, row);
}

// Gradients of the pixels of a patch with respect to one ellipsoid.
struct EllipsoidMoments {
  FP u, v, alpha, depth;  // dL/du, dL/dv, alpha dL/dalpha, dL/d(depth of the centre)
  FP signal_x, signal_y;  // |the screen signal|
};

template <bool ABSOLUTE>
IQGS_INLINE void add_moments(const EllipsoidMoments& m, const FP& px, const FP& py, float* row) {
  NativeF sum, by_y, by_x, rest = {};
  const NativeF nothing = {};
#pragma GCC unroll 2
  for (int p = 0; p < PATCH_PARTS; ++p) {
    const NativeF s = sum_four(m.u.v[p], m.v.v[p], m.alpha.v[p], m.depth.v[p]);
    const NativeF x = px.v[p];
    const NativeF sx = sum_four(m.u.v[p] * x, m.v.v[p] * x, nothing, nothing);
    const NativeF sy = s * py.v[p];
    sum = p ? sum + s : s;
    by_y = p ? by_y + sy : sy;
    by_x = p ? by_x + sx : sx;
    if (ABSOLUTE) rest += sum_four(nothing, nothing, m.signal_x.v[p], m.signal_y.v[p]);
  }
  add_quads(sum, by_y, by_x, rest, row);
}

// Moments about the splat's own centre, in the order of Moment; `absolute` may be null. Without
// gradients of depth only the first of RAW_REST was summed, and maybe the signal: the others hold
// anything.
IQGS_INLINE void finish_moments(Surfel, const SplatRecord& s, const float* raw,
                                const float* absolute, bool depth, float* out) {
  const bool hit_depth = depth && absolute != raw + RAW_ABSOLUTE;
  const float x = s.x - MIDDLE, y = s.y - MIDDLE;
  const Quad at_x = {x, x, x, x + s.anchor_x}, at_y = {y, y, y, y + s.anchor_y};
  const Quad sum = load_quad(raw + 4 * RAW_SUM);
  const Quad dx = load_quad(raw + 4 * RAW_X) - at_x * sum;
  const Quad dy = load_quad(raw + 4 * RAW_Y) - at_y * sum;
  const Quad nothing = {};
  Quad in[4] = {sum, dx, dy, nothing}, t[4];
  transpose_four(in, t);  // u, v, w, anchor: sum, dx, dy
  const float* rest = raw + 4 * RAW_REST;
  store_quad(out + M_U, t[RAW_U]);
  store_quad(out + M_V, t[RAW_V]);
  store_quad(out + M_W, t[RAW_W]);
  out[M_ALPHA] = rest[0];
  out[M_ANCHOR_X] = dx[RAW_ANCHOR];
  out[M_ANCHOR_Y] = dy[RAW_ANCHOR];
  out[M_DEPTH] = depth ? rest[1] : 0.0f;
  out[M_HIT_DEPTH] = hit_depth ? rest[2] : 0.0f;
  out[M_ABS_X] = absolute ? absolute[0] : 0.0f;
  out[M_ABS_Y] = absolute ? absolute[1] : 0.0f;
}
static_assert(M_U + 3 == M_V && M_V + 3 == M_W && M_W + 3 == M_ALPHA, "quads overlap by one");

IQGS_INLINE void finish_moments(Ellipsoid, const SplatRecord& s, const float* raw,
                                const float* absolute, bool depth, float* out) {
  const float x = s.x - MIDDLE, y = s.y - MIDDLE;
  const float *sum = raw + 4 * RAW_SUM, *by_x = raw + 4 * RAW_X, *by_y = raw + 4 * RAW_Y;
  for (int k = 0; k < MOMENTS; ++k) out[k] = 0.0f;
  out[M_U] = sum[RAW_U];
  out[M_U_DX] = by_x[RAW_U] - x * sum[RAW_U];
  out[M_U_DY] = by_y[RAW_U] - y * sum[RAW_U];
  out[M_V] = sum[RAW_V];
  out[M_V_DX] = by_x[RAW_V] - x * sum[RAW_V];
  out[M_V_DY] = by_y[RAW_V] - y * sum[RAW_V];
  out[M_ALPHA] = sum[RAW_ALPHA];
  out[M_DEPTH] = depth ? sum[RAW_DEPTH] : 0.0f;
  out[M_ABS_X] = absolute ? absolute[0] : 0.0f;
  out[M_ABS_Y] = absolute ? absolute[1] : 0.0f;
}

}  // namespace IQGS_ISA
}  // namespace iqgs
