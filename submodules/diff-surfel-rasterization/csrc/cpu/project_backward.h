// SPDX-License-Identifier: Apache-2.0
// Sums the gradient rows of each splat in the order of its tiles, then goes back to the parameters:
// sixteen splats at a time.
#pragma once

#include "../common/projection_vjp.h"
#include "../common/surfel_math.h"
#include "project_forward.h"
#include "tile_batch.h"

namespace iqgs {
namespace IQGS_ISA {

// Sums of sixteen splats, transposed: one array per number.
struct SplatSums {
  alignas(64) float moment[LANES][LANES];  // [moment][splat]
  alignas(64) float color[3][LANES];
  alignas(64) float normal[3][LANES];
};

// Sum of one vector's worth of columns over the `count` rows of a splat.
IQGS_INLINE F16 sum_column(const float* rows, int stride, int count) {
  F16 sum(0.0f);
  for (int k = 0; k < count; ++k) sum = sum + F16::load(rows + static_cast<int64_t>(k) * stride);
  return sum;
}

// Channel sums of splat n: features go out, normal and colour are kept.
IQGS_INLINE void sum_channels(const ProjectGradParams& p, const float* rows, int count, int64_t n,
                              int lane, float* space, SplatSums& s) {
  for (int c = 0; c < p.channel_count; c += LANES)
    sum_column(rows + c, p.row_floats, count).store(space + c);
  const float* channel = space - p.first_channel;  // indexed by channel of the whole row
  const int end = p.first_channel + p.channel_count;
  for (int c = p.first_channel; c < end && c < SHADE_CHANNELS; ++c)
    (c < 3 ? s.normal[c] : s.color[c - 3])[lane] = channel[c];
  if (p.features && end > SHADE_CHANNELS)
    copy_floats(channel + SHADE_CHANNELS, p.feature_count, p.features + n * p.feature_count);
}

IQGS_PHASE void sum_rows(const ProjectGradParams& p, int64_t first, int64_t last, float* space,
                         SplatSums& s) {
  __builtin_memset(&s, 0, sizeof(s));
  alignas(64) float moments[LANES][LANES] = {};
  const int skip = p.geometry ? MOMENT_FLOATS : 0;
  for (int64_t n = first; n < last; ++n) {
    const int lane = static_cast<int>(n - first);
    const float* rows = p.rows + static_cast<int64_t>(p.offset[n]) * p.row_floats;
    const int count = p.offset[n + 1] - p.offset[n];
    if (p.geometry) sum_column(rows, p.row_floats, count).store(moments[lane]);
    sum_channels(p, rows + skip, count, n, lane, space, s);
  }
  for (int i = 0; p.geometry && i < LANES; i += 4)
    for (int j = 0; j < LANES; j += 4)
      transpose_four(&moments[i][j], LANES, &s.moment[j][i], LANES);
}

// Stores sixteen vectors' worth of columns into rows [N, width].
template <int WIDTH, class R>
IQGS_INLINE void scatter_columns(const R (&columns)[WIDTH], float* rows, int64_t first,
                                 int64_t last, uint32_t live) {
  if (!rows) return;
  alignas(64) float m[WIDTH][LANES];
  for (int c = 0; c < WIDTH; ++c) columns[c].store(m[c]);
  for (int64_t n = first; n < last; ++n)
    for (int c = 0; c < WIDTH; ++c)
      rows[n * WIDTH + c] = (live >> (n - first)) & 1u ? m[c][n - first] : 0.0f;
}

// Gradients of the coefficients, and through the direction into the mean.
IQGS_PHASE void color_vjp(const ProjectGradParams& p, const Vec3<F16>& mean, int64_t first,
                          int64_t last, SplatSums& s, Vec3<F16>& grad_mean) {
  const ProjectParams& f = p.forward;
  F16 inverse_length;
  Vec3<F16> direction = view_directions(f.camera, mean, inverse_length);
  F16 basis[MAX_SH_COEFFICIENTS];
  sh_basis(direction, f.sh_degree, basis);
  const int used = sh_coefficients(f.sh_degree);
  alignas(64) float b[MAX_SH_COEFFICIENTS][LANES], g[MAX_SH_COEFFICIENTS][LANES] = {};
  for (int k = 0; k < used; ++k) basis[k].store(b[k]);
  for (int64_t n = first; n < last; ++n) {
    const int lane = static_cast<int>(n - first);
    float* out = p.sh ? p.sh + n * f.sh_stride * 3 : nullptr;
    const bool visible = f.radii[n] > 0;
    if (!visible) {
      for (int k = 0; out && k < 3 * f.sh_stride; ++k) out[k] = 0.0f;
      continue;
    }
    const float* sh = f.sh + n * f.sh_stride * 3;
    float rgb[3];
    for (int c = 0; c < 3; ++c) rgb[c] = f.shades[n].color[c] > 0.0f ? s.color[c][lane] : 0.0f;
    for (int k = 0; k < used; ++k)
      g[k][lane] = sh[3 * k] * rgb[0] + sh[3 * k + 1] * rgb[1] + sh[3 * k + 2] * rgb[2];
    if (!out) continue;
    for (int k = 0; k < f.sh_stride; ++k)
      for (int c = 0; c < 3; ++c) out[3 * k + c] = k < used ? b[k][lane] * rgb[c] : 0.0f;
  }
  F16 gk[MAX_SH_COEFFICIENTS];
  for (int k = 0; k < used; ++k) gk[k] = F16::load(g[k]);
  grad_mean = grad_mean +
              direction_vjp(direction, inverse_length, sh_basis_vjp(direction, f.sh_degree, gk));
}

IQGS_INLINE void write_signals(const ProjectGradParams& p, const SplatView<D16>& v, const D16* m,
                               int64_t first, int64_t last, uint32_t live) {
  const D16 half_w(0.5 * p.forward.camera.width), half_h(0.5 * p.forward.camera.height);
  ScreenSignal<D16> signal = screen_signal(v.a, v.b, v.c, v.d, v.e, v.f, v.depth, m);
  const D16 plain[3] = {signal.x * half_w, signal.y * half_h, D16(0.0)};
  scatter_columns(plain, p.screen, first, last, live);
  const D16 absolute[3] = {m[M_ABS_X] * half_w, m[M_ABS_Y] * half_h, D16(0.0)};
  scatter_columns(absolute, p.screen_abs, first, last, live);
}

void project_backward(const ProjectGradParams& p, int64_t first_splat, int64_t last_splat,
                      Arena& arena) {
  float* space = static_cast<float*>(arena.reserve(sizeof(float) * padded(p.channel_count)));
  const Camera& cam = p.forward.camera;
  for (int64_t first = first_splat; first < last_splat; first += LANES) {
    const int64_t last = first + LANES < last_splat ? first + LANES : last_splat;
    // Sum the rows; feature gradients are then complete.
    SplatSums s;
    sum_rows(p, first, last, space, s);
    if (p.colors && p.channel_count)
      for (int64_t n = first; n < last; ++n)
        for (int c = 0; c < 3; ++c) p.colors[3 * n + c] = s.color[c][n - first];
    if (!p.geometry && !p.sh) continue;

    uint32_t live = 0;
    for (int64_t n = first; n < last; ++n)
      live |= static_cast<uint32_t>(p.forward.radii[n] > 0) << (n - first);
    SplatInput<D16> in = gather_splats(p.forward, first);
    Vec3<F16> through_color = {F16(0.0f), F16(0.0f), F16(0.0f)};
    if (p.forward.sh) color_vjp(p, narrow(in.mean), first, last, s, through_color);
    if (!p.geometry) continue;

    // From the moments to the camera frame to the parameters.
    SplatFrame<D16> frame = splat_frame(cam, in);
    SplatView<D16> view = splat_view(cam, frame, in.opacity);
    D16 m[MOMENT_FLOATS];
    for (int k = 0; k < MOMENTS; ++k) m[k] = D16::load(s.moment[k]);
    const D16 zero(0.0);
    D16 side = select(frame.facing > zero, D16(-1.0), D16(1.0));
    FrameGrad<D16> grad = {{zero, zero, zero},
                           {zero, zero, zero},
                           {zero, zero, zero},
                           {D16::load(s.normal[0]) * side, D16::load(s.normal[1]) * side,
                            D16::load(s.normal[2]) * side},
                           zero,
                           zero};
    view_vjp(cam, frame, view, m, grad);
    if (cam.aabb_anchor) box_anchor_vjp(cam, frame, m[M_ANCHOR_X], m[M_ANCHOR_Y], grad);
    SplatGrad<D16> out = frame_vjp(cam, frame, grad);

    const D16 mean[3] = {out.mean.x + widen(through_color.x), out.mean.y + widen(through_color.y),
                         out.mean.z + widen(through_color.z)};
    scatter_columns(mean, p.means, first, last, live);
    const D16 scale[2] = {out.scale_u, out.scale_v};
    scatter_columns(scale, p.scales, first, last, live);
    const D16 rotation[4] = {out.qw, out.qx, out.qy, out.qz};
    scatter_columns(rotation, p.rotations, first, last, live);
    const D16 opacity[1] = {m[M_ALPHA] / in.opacity};
    scatter_columns(opacity, p.opacities, first, last, live);
    write_signals(p, view, m, first, last, live);
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
