// SPDX-License-Identifier: Apache-2.0
// Sums the gradient rows of each splat in the order of its tiles, then goes back to the parameters:
// sixteen splats at a time.
#pragma once

#include "../common/ellipsoid_projection_vjp.h"
#include "../common/surfel_projection_vjp.h"
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

// Sums of V vectors of columns over the `count` rows of a splat.
template <int V>
IQGS_INLINE void sum_vectors(const float* rows, int stride, int count, float* sums) {
  F16 sum[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) sum[v] = F16(0.0f);
  for (int k = 0; k < count; ++k, rows += stride)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[v] = sum[v] + F16::load(rows + v * LANES);
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) sum[v].store(sums + v * LANES);
}

// The sums of whole rows: one pass where they are short, since how many rows a splat has cannot be
// foretold.
IQGS_INLINE void sum_splat(const float* rows, int stride, int count, float* sums) {
  int left = stride / LANES;
  for (; left > 4; left -= 3, rows += 3 * LANES, sums += 3 * LANES)
    sum_vectors<3>(rows, stride, count, sums);
  if (left == 1) return sum_vectors<1>(rows, stride, count, sums);
  if (left == 2) return sum_vectors<2>(rows, stride, count, sums);
  if (left == 3) return sum_vectors<3>(rows, stride, count, sums);
  sum_vectors<4>(rows, stride, count, sums);
}

// Channel sums of splat n: features go out, normal and colour are kept.
IQGS_INLINE void take_channels(const ProjectGradParams& p, const float* sums, int64_t n, int lane,
                               SplatSums& s) {
  const float* channel = sums - p.first_channel;  // indexed by channel of the whole row
  const int end = p.first_channel + p.channel_count;
  for (int c = p.first_channel; c < end && c < SHADE_CHANNELS; ++c)
    (c < 3 ? s.normal[c] : s.color[c - 3])[lane] = channel[c];
  if (p.features && end > SHADE_CHANNELS)
    copy_floats(channel + SHADE_CHANNELS, p.feature_count, p.features + n * p.feature_count);
}

// Fetches the rows of the splats from `first` on: memory works while those before are projected.
IQGS_INLINE void fetch_rows(const ProjectGradParams& p, int64_t first, int64_t count) {
  const int64_t last = first + LANES < count ? first + LANES : count;
  if (first >= last) return;
  const int64_t end = static_cast<int64_t>(p.offset[last]) * p.row_floats;
  for (int64_t i = static_cast<int64_t>(p.offset[first]) * p.row_floats; i < end; i += LANES)
    __builtin_prefetch(p.rows + i, 0, 2);
}

// `space` holds sixteen rows.
IQGS_PHASE void sum_rows(const ProjectGradParams& p, int64_t first, int64_t last, float* space,
                         SplatSums& s) {
  __builtin_memset(&s, 0, sizeof(s));
  const int stride = p.row_floats;
  for (int64_t n = first; n < last; ++n)
    sum_splat(p.rows + static_cast<int64_t>(p.offset[n]) * stride, stride,
              p.offset[n + 1] - p.offset[n], space + (n - first) * stride);
  for (int i = static_cast<int>(last - first); p.geometry && i < LANES; ++i)
    F16(0.0f).store(space + static_cast<int64_t>(i) * stride);
  for (int i = 0; p.geometry && i < LANES; i += 4)
    for (int j = 0; j < LANES; j += 4)
      transpose_four(space + static_cast<int64_t>(i) * stride + j, stride, &s.moment[j][i], LANES);
  const float* channels = space + (p.geometry ? MOMENT_FLOATS : 0);
  for (int64_t n = first; p.channel_count && n < last; ++n)
    take_channels(p, channels + (n - first) * stride, n, static_cast<int>(n - first), s);
}

// Writes W columns of the splats first .. last - 1; zero where the splat is not live.
template <int W>
IQGS_INLINE void scatter_columns(const D16 (&columns)[W], float* rows, int64_t first, int64_t last,
                                 const Mask& live) {
  if (!rows) return;
  F16 m[W];
  for (int c = 0; c < W; ++c) m[c] = zero_unless(live, narrow(columns[c]));
  store_columns<W>(m, rows, first, last);
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

template <class Pixels>
IQGS_INLINE void write_signals(const ProjectGradParams& p, const SplatView<D16>& v, const D16* m,
                               int64_t first, int64_t last, const Mask& live) {
  const D16 half_w(0.5 * p.forward.camera.width), half_h(0.5 * p.forward.camera.height);
  ScreenSignal<D16> signal =
      Pixels::screen_signal(v.a, v.b, v.c, v.d, v.e, v.f, v.depth, m);
  const D16 plain[3] = {signal.x * half_w, signal.y * half_h, D16(0.0)};
  scatter_columns(plain, p.screen, first, last, live);
  const D16 absolute[3] = {m[M_ABS_X] * half_w, m[M_ABS_Y] * half_h, D16(0.0)};
  scatter_columns(absolute, p.screen_abs, first, last, live);
}

template <class Projection>
void project_backward(const ProjectGradParams& p, int64_t first_splat, int64_t last_splat,
                      Arena& arena) {
  float* space = static_cast<float*>(arena.reserve(sizeof(float) * LANES * p.row_floats));
  const Camera& cam = p.forward.camera;
  for (int64_t first = first_splat; first < last_splat; first += LANES) {
    const int64_t last = first + LANES < last_splat ? first + LANES : last_splat;
    // Sum the rows; feature gradients are then complete.
    SplatSums s;
    sum_rows(p, first, last, space, s);
    fetch_rows(p, last, p.forward.count);
    if (p.channel_count) {
      const F16 color[3] = {F16::load(s.color[0]), F16::load(s.color[1]), F16::load(s.color[2])};
      store_columns<3>(color, p.colors, first, last);
    }
    if (!p.geometry && !p.sh) continue;

    uint32_t visible = 0;
    for (int64_t n = first; n < last; ++n)
      visible |= static_cast<uint32_t>(p.forward.radii[n] > 0) << (n - first);
    const Mask live = lanes_of(visible);
    const auto in = gather_splats<Projection::SCALES>(p.forward, first);
    Vec3<F16> through_color = {F16(0.0f), F16(0.0f), F16(0.0f)};
    if (p.forward.sh) color_vjp(p, narrow(in.mean), first, last, s, through_color);
    if (!p.geometry) continue;

    // From the moments to the camera frame to the parameters.
    const auto frame = splat_frame(cam, in);
    const auto view = Projection::view(cam, frame, in.opacity);
    D16 m[MOMENT_FLOATS];
    for (int k = 0; k < MOMENTS; ++k) m[k] = D16::load(s.moment[k]);
    const Vec3<D16> normal = {D16::load(s.normal[0]), D16::load(s.normal[1]),
                              D16::load(s.normal[2])};
    const auto grad = frame_grad(Projection(), cam, frame, view, m, normal);
    const auto out = frame_vjp(cam, frame, grad);

    const D16 mean[3] = {out.mean.x + widen(through_color.x), out.mean.y + widen(through_color.y),
                         out.mean.z + widen(through_color.z)};
    scatter_columns(mean, p.means, first, last, live);
    scatter_columns(out.scale, p.scales, first, last, live);
    const D16 rotation[4] = {out.qw, out.qx, out.qy, out.qz};
    scatter_columns(rotation, p.rotations, first, last, live);
    const D16 opacity[1] = {m[M_ALPHA] / in.opacity};
    scatter_columns(opacity, p.opacities, first, last, live);
    write_signals<typename Projection::Pixels>(p, view, m, first, last, live);
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
