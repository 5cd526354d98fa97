// SPDX-License-Identifier: Apache-2.0
// The blending weights themselves, pixel by pixel: a counting pass, then a filling pass. And their
// sums by the labels of the pixels.
#include "../common/ellipsoid_math.h"
#include "../common/surfel_math.h"
#include "weigh_tile.h"

namespace iqgs {
namespace cuda {
namespace {

template <class Pixels>
__global__ void __launch_bounds__(TILE_THREADS) weigh_kernel(WeightParams p) {
  IQGS_DYNAMIC_SHARED(float, memory);
  const Batch b = carve_batch(memory, 0);
  const Tile tile = this_tile(p.blend);
  const Pixel pixel = this_pixel(p.blend, tile);
  const PixelOptions o = tile_options(p.blend, tile);
  const int64_t start = p.row_start && pixel.inside ? p.row_start[pixel.index] : 0;
  float transmittance = 1.0f;
  int64_t filled = 0;
  const auto visit = [&](const SplatRecord&, const typename Pixels::template Hit<float>&,
                         const Meeting& m) {
    if (!m.hit || !(m.weight > 0.0f && m.weight >= p.min_weight)) return;
    if (p.row_start) {
      p.splat[start + filled] = b.splats[m.place];
      p.weight[start + filled] = m.weight;
    }
    ++filled;
  };
  walk_tile<Pixels>(p.blend, tile, pixel, o, b, transmittance, [](int) {}, visit);
  if (pixel.inside && !p.row_start) p.count[pixel.index] = filled;
}

// Sums by label. Whole numbers: whichever lane comes first, the sum has the same bits.
// Without a least number of blocks nvcc spills here at 32 registers; with one it takes 44 and does not.
template <class Pixels>
__global__ void __launch_bounds__(TILE_THREADS, 4) label_kernel(LabelWeightParams p) {
  IQGS_DYNAMIC_SHARED(float, memory);
  const Batch b = carve_batch(memory, 0);
  const Tile tile = this_tile(p.blend);
  const Pixel pixel = this_pixel(p.blend, tile);
  const PixelOptions o = tile_options(p.blend, tile);
  const int64_t pixels = int64_t(p.blend.camera.width) * p.blend.camera.height;
  float transmittance = 1.0f;
  const auto visit = [&](const SplatRecord&, const typename Pixels::template Hit<float>&,
                         const Meeting& m) {
    if (!m.hit || !(m.weight > 0.0f && m.weight >= p.min_weight)) return;
    const auto parts = static_cast<unsigned long long>(llrintf(m.weight * LABEL_WEIGHT_PARTS));
    int64_t* const sums = p.sums + b.splats[m.place] * p.columns;
    for (int map = 0; map < p.maps; ++map) {
      const int32_t column = p.labels[map * pixels + pixel.index];
      if (column >= 0) atomicAdd(reinterpret_cast<unsigned long long*>(sums + column), parts);
    }
  };
  walk_tile<Pixels>(p.blend, tile, pixel, o, b, transmittance, [](int) {}, visit);
}

}  // namespace

void weigh_tiles(const LabelWeightParams& p, void* stream) {
  const auto kernel =
      p.blend.primitive == Primitive::SURFEL ? &label_kernel<Surfel> : &label_kernel<Ellipsoid>;
  launch("label_weights", stream, p.blend.lists.tiles_x * p.blend.lists.tiles_y, TILE_THREADS,
         batch_bytes(0), kernel, p);
}

void weigh_tiles(const WeightParams& p, void* stream) {
  const auto kernel =
      p.blend.primitive == Primitive::SURFEL ? &weigh_kernel<Surfel> : &weigh_kernel<Ellipsoid>;
  launch("weigh", stream, p.blend.lists.tiles_x * p.blend.lists.tiles_y, TILE_THREADS,
         batch_bytes(0), kernel, p);
}

}  // namespace cuda
}  // namespace iqgs
