// SPDX-License-Identifier: Apache-2.0
// Splats to records, footprints, tile boxes, radii and colours: one thread a splat, the geometry in
// double precision as on the CPU, so that both see the same splats, or in pairs of floats where the
// device's doubles are slow.
#include "../common/ellipsoid_projection.h"
#include "../common/sh_math.h"
#include "../common/surfel_projection.h"
#include "half_planes.h"
#include "kernels.h"
#include "precision.h"
#include "splat_input.h"

namespace iqgs {
namespace cuda {
namespace {

constexpr int THREADS = 128;
constexpr uint32_t NOT_VISIBLE = 0xffffffffu;  // after every positive depth

struct ToFloat {
  template <class R>
  __device__ float operator()(const R& wide) const {
    return float(wide);
  }
};

template <class R>
__device__ void write_record(const SplatView<R>& v, SplatRecord& r) {
  const float x = float(v.x), y = float(v.y);
  r = {x,
       y,
       float(v.a),
       float(v.b),
       float(v.c),
       float(v.d),
       float(v.e),
       float(v.f),
       float(v.depth),
       float(v.opacity),
       float(v.cut),
       float(v.anchor_x),
       float(v.anchor_y),
       float(v.x - R(x)),
       float(v.y - R(y)),
       float(R(1.0f) / v.depth)};
}

// Colour from the harmonics: half + sum of basis times coefficients, at least 0.
template <class R>
__device__ void harmonic_color(const ProjectParams& p, const CameraOf<R>& cam,
                               const Vec3<float>& mean, int64_t n, float* rgb) {
  float inverse_length, basis[MAX_SH_COEFFICIENTS];
  sh_basis(view_direction(cam, mean, inverse_length), p.sh_degree, basis);
  const float* sh = p.sh + n * p.sh_stride * 3;
  float sum[3] = {0.5f, 0.5f, 0.5f};
  for (int k = 0; k < sh_coefficients(p.sh_degree); ++k)
    for (int c = 0; c < 3; ++c) sum[c] += basis[k] * sh[3 * k + c];
  for (int c = 0; c < 3; ++c) rgb[c] = sum[c] > 0.0f ? sum[c] : 0.0f;
}

template <class R>
__device__ void write_shade(const ProjectParams& p, const CameraOf<R>& cam, const SplatView<R>& v,
                            const Vec3<R>& mean, int64_t n) {
  SplatShade shade = {{float(v.normal.x), float(v.normal.y), float(v.normal.z)}, {}, {}};
  if (p.sh) {
    harmonic_color(p, cam, {float(mean.x), float(mean.y), float(mean.z)}, n, shade.color);
  } else {
    for (int c = 0; c < 3; ++c) shade.color[c] = p.colors[3 * n + c];
  }
  p.shades[n] = shade;
}

template <class Projection, class R>
__global__ void __launch_bounds__(THREADS)
    project_kernel(ProjectParams p, CameraOf<R> cam, uint32_t* depth_keys, int64_t* tiles) {
  const int64_t n = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (n == 0) tiles[p.count] = 0;
  if (n >= p.count) return;
  const auto s = load_splat<R, Projection::SCALES>(p, n);
  const auto f = splat_frame(cam, s);
  const auto v = Projection::view(cam, f, s.opacity);
  TileBox box = {0, 0, 0, 0};
  SplatBounds<float> b = {};
  // Bright enough to be seen at all.
  if (Projection::alive(cam, f, v) && float(v.cut) >= 0.0f) {
    b = Projection::bounds(cam, f, v, ToFloat());
    box = tile_box(p.camera, b);
  }
  const int64_t count = area(box);
  p.boxes[n] = box;
  p.radii[n] = count ? whole_radius(b.radius) : 0;
  tiles[n] = count;
  depth_keys[n] = count ? __float_as_uint(float(v.depth)) : NOT_VISIBLE;
  if (!count) return;
  p.footprints[n] = {b.x, b.y, b.half_x, b.half_y, b.slope, b.chord, b.disc, 0.0f};
  write_record<R>(v, p.records[n]);
  write_shade<R>(p, cam, v, s.mean, n);
}

// Takes the tiles away that splats across the camera plane cannot reach.
__global__ void __launch_bounds__(THREADS) tighten_kernel(ProjectParams p, int64_t* tiles) {
  const int64_t n = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (n >= p.count || tiles[n] == 0 || !unbounded(p.footprints[n].half_y)) return;
  const TileBox box = unbounded_tiles(p.records[n], p.camera, p.footprints[n].disc, p.boxes[n]);
  p.boxes[n] = box;
  tiles[n] = area(box);
}

template <class R>
void queue_projection(const char* name, const ProjectParams& p, uint32_t* depth_keys,
                      int64_t* tiles, void* stream) {
  // One block even without splats: it ends the list of tiles.
  const int blocks = p.count ? blocks_for(p.count, THREADS) : 1;
  const auto kernel = p.primitive == Primitive::SURFEL ? &project_kernel<SurfelProjection, R>
                                                       : &project_kernel<EllipsoidProjection, R>;
  launch(name, stream, blocks, THREADS, 0, kernel, p, camera_in<R>(p.camera), depth_keys, tiles);
}

}  // namespace

void project_splats(const ProjectParams& p, uint32_t* depth_keys, int64_t* tiles, void* stream) {
  if (doubles_are_slow())
    queue_projection<Twofold>("project_pairs", p, depth_keys, tiles, stream);
  else
    queue_projection<double>("project", p, depth_keys, tiles, stream);
  launch("tighten", stream, blocks_for(p.count, THREADS), THREADS, 0, &tighten_kernel, p, tiles);
}

}  // namespace cuda
}  // namespace iqgs
