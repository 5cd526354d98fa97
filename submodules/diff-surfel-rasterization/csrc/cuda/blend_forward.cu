// SPDX-License-Identifier: Apache-2.0
// Records to images: a block is a tile, a lane a pixel with its channel sums in registers.
#include "../common/ellipsoid_math.h"
#include "../common/surfel_math.h"
#include "weigh_tile.h"

namespace iqgs {
namespace cuda {
namespace {

// What a pixel sums beside its channels.
struct PixelSums {
  float depth, median_depth;
  DistortionSums<float> distortion;
  int last, median;
};

template <class Pixels>
__device__ __forceinline__ void add_maps(const SplatRecord& splat,
                                         const typename Pixels::template Hit<float>& h,
                                         const PixelOptions& o, const Meeting& m, int32_t number,
                                         PixelSums& s) {
  if (!m.hit) return;
  const float z = Pixels::depth(splat, h, o);
  if (m.transmittance > MEDIAN_TRANSMITTANCE) {
    s.median_depth = z;
    s.median = number;
  }
  s.depth = fused(m.weight, z, s.depth);
  s.distortion.add(m.weight, mapped_depth(Pixels::inverse_depth(splat, h, o), o));
  s.last = m.position + 1;
}

__device__ void write_maps(const BlendParams& p, const PixelTotals& t, const Pixel& pixel,
                           float transmittance, PixelSums& s) {
  const int64_t i = pixel.index;
  s.distortion.weight = 1.0f - transmittance;
  p.alpha[i] = s.distortion.weight;
  p.depth[i] = s.depth;
  p.median_depth[i] = s.median_depth;
  p.distortion[i] = s.distortion.total();
  t.transmittance[i] = transmittance;
  t.first[i] = s.distortion.first;
  t.second[i] = s.distortion.second;
  t.last[i] = s.last;
  t.median[i] = s.median;
}

// Channels first .. first + count; a pass with maps begins with the normal, the others are
// features.
template <int CHANNELS, bool MAPS>
__device__ void write_channels(const BlendParams& p, const Pixel& pixel, float transmittance,
                               int first, int count, const float (&sums)[CHANNELS]) {
  const int64_t plane = int64_t(p.camera.width) * p.camera.height;
  float* feature = p.feature + pixel.index + (MAPS ? 0 : (first - SHADE_CHANNELS) * plane);
#pragma unroll
  for (int k = 0; k < CHANNELS; ++k) {
    if (k >= count) return;
    if (MAPS && k < 3) {
      p.normal[k * plane + pixel.index] = sums[k];
    } else if (MAPS && k < SHADE_CHANNELS) {
      p.color[(k - 3) * plane + pixel.index] = fused(transmittance, p.background[k - 3], sums[k]);
    } else {
      *feature = sums[k];
      feature += plane;
    }
  }
}

// Blocks that share a multiprocessor at least.
constexpr int LEAST_BLOCKS = 4;

// Channels first .. first + count of the image; MAPS: and everything that is no channel.
template <class Pixels, int CHANNELS, bool MAPS>
__global__ void __launch_bounds__(TILE_THREADS, LEAST_BLOCKS)
    blend_forward_kernel(BlendParams p, PixelTotals totals, int first, int count) {
  IQGS_DYNAMIC_SHARED(float, memory);
  const Batch b = carve_batch(memory, CHANNELS);
  const Tile tile = this_tile(p);
  const Pixel pixel = this_pixel(p, tile);
  const PixelOptions o = tile_options(p, tile);
  float sums[CHANNELS] = {};
  PixelSums maps = {0.0f, 0.0f, {0.0f, 0.0f, 0.0f}, 0, -1};
  float transmittance = 1.0f;
  const auto load = [&](int batch) {
    load_rows<CHANNELS>(p, b.splats, batch, first, count, b.rows);
  };
  const auto visit = [&](const SplatRecord& splat, const typename Pixels::template Hit<float>& h,
                         const Meeting& m) {
    const float* row = b.rows + m.place * row_stride(CHANNELS);
#pragma unroll
    for (int k = 0; k < CHANNELS / 4; ++k) {
      const float4 v = row_quad(row, k);
      sums[4 * k] = fused(m.weight, v.x, sums[4 * k]);
      sums[4 * k + 1] = fused(m.weight, v.y, sums[4 * k + 1]);
      sums[4 * k + 2] = fused(m.weight, v.z, sums[4 * k + 2]);
      sums[4 * k + 3] = fused(m.weight, v.w, sums[4 * k + 3]);
    }
    if (MAPS) add_maps<Pixels>(splat, h, o, m, m.position, maps);
  };
  const int used = walk_tile<Pixels>(p, tile, pixel, o, b, transmittance, load, visit);
  if (MAPS && threadIdx.x == 0) p.lists.used[tile.number] = used;
  if (!pixel.inside) return;
  if (MAPS) write_maps(p, totals, pixel, transmittance, maps);
  write_channels<CHANNELS, MAPS>(p, pixel, transmittance, first, count, sums);
}

template <class Pixels, bool MAPS>
void blend_channels(const BlendParams& p, const PixelTotals& t, int first, int count,
                    void* stream) {
  const int tiles = p.lists.tiles_x * p.lists.tiles_y;
  const auto pass = [&](auto kernel, int channels) {
    launch("blend_forward", stream, tiles, TILE_THREADS, batch_bytes(channels), kernel, p, t, first,
           count);
  };
  if (count <= 4 && !MAPS) return pass(&blend_forward_kernel<Pixels, 4, false>, 4);
  if (count <= 8) return pass(&blend_forward_kernel<Pixels, 8, MAPS>, 8);
  if (count <= 16) return pass(&blend_forward_kernel<Pixels, 16, MAPS>, 16);
  pass(&blend_forward_kernel<Pixels, WIDEST, MAPS>, WIDEST);
}

template <class Pixels>
void blend_all(const BlendParams& p, const PixelTotals& totals, void* stream) {
  const int channels = SHADE_CHANNELS + p.feature_count;
  blend_channels<Pixels, true>(p, totals, 0, channels < WIDEST ? channels : WIDEST, stream);
  for (int c = WIDEST; c < channels; c += WIDEST)
    blend_channels<Pixels, false>(p, totals, c, channels - c < WIDEST ? channels - c : WIDEST, stream);
}

}  // namespace

void blend_tiles(const BlendParams& p, const PixelTotals& totals, void* stream) {
  const auto blend = p.primitive == Primitive::SURFEL ? blend_all<Surfel> : blend_all<Ellipsoid>;
  blend(p, totals, stream);
}

}  // namespace cuda
}  // namespace iqgs
