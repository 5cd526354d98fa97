// SPDX-License-Identifier: Apache-2.0
// Sums the gradient rows of each splat in the order of its tiles, then goes back to the parameters.
#include "../common/ellipsoid_projection_vjp.h"
#include "../common/sh_math.h"
#include "../common/surfel_projection_vjp.h"
#include "kernels.h"
#include "precision.h"
#include "splat_input.h"
#include "warp.h"

namespace iqgs {
namespace cuda {
namespace {

constexpr int THREADS = 128;
constexpr int IN_FLIGHT = 4;  // rows that a thread reads at a time

// Four columns of a splat's rows a thread: neighbours read neighbours.
__global__ void __launch_bounds__(THREADS)
    sum_rows_kernel(ProjectGradParams p, int per_block, float* moments, float* shades) {
  const int skip = p.geometry ? int(MOMENTS) : 0, quads = (skip + p.channel_count + 3) / 4;
  for (int i = threadIdx.x; i < per_block * quads; i += THREADS) {
    const int64_t n = int64_t(blockIdx.x) * per_block + i / quads;
    if (n >= p.forward.count) return;
    const int column = i % quads * 4;
    float4 sum = four_zeros();
    const int64_t end = p.offset[n + 1];
    for (int64_t k = p.offset[n]; k < end; k += IN_FLIGHT) {
      float4 v[IN_FLIGHT];
#pragma unroll
      for (int j = 0; j < IN_FLIGHT; ++j) {
        v[j] = four_zeros();
        const float* row = p.rows + (k + j) * p.row_floats + column;
        if (k + j < end) v[j] = *reinterpret_cast<const float4*>(row);
      }
#pragma unroll
      for (int j = 0; j < IN_FLIGHT; ++j) sum = plus(sum, v[j]);
    }
    static_assert(MOMENTS % 4 == 0, "four columns are of one kind");
    if (column < skip) {
      *reinterpret_cast<float4*>(moments + n * MOMENTS + column) = sum;
      continue;
    }
    const float sums[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int channel = column + j - skip, c = p.first_channel + channel;
      if (channel >= p.channel_count)
        continue;
      else if (c < SHADE_CHANNELS)
        shades[n * SHADE_CHANNELS + c] = sums[j];
      else if (p.features)
        p.features[n * p.feature_count + c - SHADE_CHANNELS] = sums[j];
    }
  }
}

// Gradients of the coefficients; returns what goes through the direction into the mean.
template <class R>
__device__ Vec3<float> color_vjp(const ProjectGradParams& p, const CameraOf<R>& cam, int64_t n,
                                 const float* color_grad) {
  const ProjectParams& f = p.forward;
  float* out = p.sh ? p.sh + n * f.sh_stride * 3 : nullptr;
  if (f.radii[n] == 0) {
    for (int k = 0; out && k < 3 * f.sh_stride; ++k) out[k] = 0.0f;
    return {0.0f, 0.0f, 0.0f};
  }
  const float* m = f.means + 3 * n;
  float inverse_length, basis[MAX_SH_COEFFICIENTS], gradient[MAX_SH_COEFFICIENTS] = {};
  const Vec3<float> direction = view_direction(cam, {m[0], m[1], m[2]}, inverse_length);
  sh_basis(direction, f.sh_degree, basis);
  const int used = sh_coefficients(f.sh_degree);
  const float* sh = f.sh + n * f.sh_stride * 3;
  float rgb[3];
  for (int c = 0; c < 3; ++c) rgb[c] = f.shades[n].color[c] > 0.0f ? color_grad[c] : 0.0f;
  for (int k = 0; k < used; ++k)
    gradient[k] = sh[3 * k] * rgb[0] + sh[3 * k + 1] * rgb[1] + sh[3 * k + 2] * rgb[2];
  for (int k = 0; out && k < f.sh_stride; ++k)
    for (int c = 0; c < 3; ++c) out[3 * k + c] = k < used ? basis[k] * rgb[c] : 0.0f;
  return direction_vjp(direction, inverse_length, sh_basis_vjp(direction, f.sh_degree, gradient));
}

template <class R, int WIDTH>
__device__ void write_row(float* rows, int64_t n, const R (&values)[WIDTH]) {
  if (!rows) return;
  for (int c = 0; c < WIDTH; ++c) rows[n * WIDTH + c] = float(values[c]);
}

// Of a splat that the view does not show.
template <int SCALES>
__device__ void write_zeros(const ProjectGradParams& p, int64_t n) {
  const float four[4] = {}, three[3] = {}, scales[SCALES] = {}, one[1] = {};
  write_row(p.means, n, three);
  write_row(p.scales, n, scales);
  write_row(p.rotations, n, four);
  write_row(p.opacities, n, one);
  write_row(p.screen, n, three);
  write_row(p.screen_abs, n, three);
}

template <class Pixels, class R>
__device__ void write_signals(const ProjectGradParams& p, const SplatView<R>& v, const R* m,
                              int64_t n) {
  const R half_w(0.5f * p.forward.camera.width), half_h(0.5f * p.forward.camera.height), zero(0.0f);
  const ScreenSignal<R> s = Pixels::screen_signal(v.a, v.b, v.c, v.d, v.e, v.f, v.depth, m);
  write_row<R>(p.screen, n, {s.x * half_w, s.y * half_h, zero});
  write_row<R>(p.screen_abs, n, {m[M_ABS_X] * half_w, m[M_ABS_Y] * half_h, zero});
}

// From the moments to the camera frame to the parameters.
template <class Projection, class R>
__device__ void geometry_vjp(const ProjectGradParams& p, const CameraOf<R>& cam, int64_t n,
                             const float* moments, const float* normal,
                             const Vec3<float>& through_color) {
  if (p.forward.radii[n] == 0) return write_zeros<Projection::SCALES>(p, n);
  const auto in = load_splat<R, Projection::SCALES>(p.forward, n);
  const auto frame = splat_frame(cam, in);
  const auto view = Projection::view(cam, frame, in.opacity);
  R m[MOMENTS];
  for (int k = 0; k < MOMENTS; ++k) m[k] = R(moments[k]);
  const Vec3<R> facing = {R(normal[0]), R(normal[1]), R(normal[2])};
  const auto grad = frame_grad(Projection(), cam, frame, view, m, facing);
  const auto out = frame_vjp(cam, frame, grad);
  write_row<R>(p.means, n,
               {out.mean.x + R(through_color.x), out.mean.y + R(through_color.y),
                out.mean.z + R(through_color.z)});
  write_row<R>(p.scales, n, out.scale);
  write_row<R>(p.rotations, n, {out.qw, out.qx, out.qy, out.qz});
  write_row<R>(p.opacities, n, {m[M_ALPHA] / in.opacity});
  write_signals<typename Projection::Pixels, R>(p, view, m, n);
}

// moments or shades are null where no row held them.
template <class Projection, class R>
__global__ void __launch_bounds__(THREADS)
    project_backward_kernel(ProjectGradParams p, CameraOf<R> cam, const float* moments,
                            const float* shades) {
  const int64_t n = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (n >= p.forward.count) return;
  float shade[SHADE_CHANNELS] = {};
  for (int c = p.first_channel; c < p.first_channel + p.channel_count && c < SHADE_CHANNELS; ++c)
    shade[c] = shades[n * SHADE_CHANNELS + c];
  if (p.colors)
    for (int c = 0; c < 3; ++c) p.colors[3 * n + c] = shade[3 + c];
  Vec3<float> through_color = {0.0f, 0.0f, 0.0f};
  if (p.forward.sh && (p.geometry || p.sh)) through_color = color_vjp(p, cam, n, shade + 3);
  if (p.geometry)
    geometry_vjp<Projection>(p, cam, n, moments + n * MOMENTS, shade, through_color);
}

template <class R>
void queue_projection_backward(const char* name, const ProjectGradParams& p,
                               const float* moments, const float* shades, void* stream) {
  const auto kernel = p.forward.primitive == Primitive::SURFEL
                          ? &project_backward_kernel<SurfelProjection, R>
                          : &project_backward_kernel<EllipsoidProjection, R>;
  launch(name, stream, blocks_for(p.forward.count, THREADS), THREADS, 0, kernel, p,
         camera_in<R>(p.forward.camera), moments, shades);
}

}  // namespace

void project_splats_backward(const ProjectGradParams& p, float* moments, float* shades,
                             void* stream) {
  const int columns = (p.geometry ? int(MOMENTS) : 0) + p.channel_count;
  if (columns == 0 || p.forward.count == 0) return;
  const int quads = (columns + 3) / 4, per_block = quads < THREADS ? THREADS / quads : 1;
  launch("sum_rows", stream, blocks_for(p.forward.count, per_block), THREADS, 0, &sum_rows_kernel,
         p, per_block, moments, shades);
  if (doubles_are_slow())
    queue_projection_backward<Twofold>("project_backward_pairs", p, moments, shades, stream);
  else
    queue_projection_backward<double>("project_backward", p, moments, shades, stream);
}

}  // namespace cuda
}  // namespace iqgs
