// SPDX-License-Identifier: Apache-2.0
// The blending weights themselves, pixel by pixel: a counting pass, then a filling pass.
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

}  // namespace

void weigh_tiles(const WeightParams& p, void* stream) {
  const auto kernel =
      p.blend.primitive == Primitive::SURFEL ? &weigh_kernel<Surfel> : &weigh_kernel<Ellipsoid>;
  launch("weigh", stream, p.blend.lists.tiles_x * p.blend.lists.tiles_y, TILE_THREADS,
         batch_bytes(0), kernel, p);
}

}  // namespace cuda
}  // namespace iqgs
