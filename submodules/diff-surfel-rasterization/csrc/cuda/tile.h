// SPDX-License-Identifier: Apache-2.0
// A block of 256 threads is a tile of 16 x 16 pixels, a warp eight by four of them. The tile's
// splats are copied to shared memory batch by batch; each warp visits those whose footprint meets
// its own pixels.
#pragma once

#include "../common/surfel_math.h"
#include "kernels.h"
#include "warp.h"

namespace iqgs {
namespace cuda {

constexpr int TILE_THREADS = TILE * TILE;
constexpr int TILE_WARPS = TILE_THREADS / WARP;
constexpr int WARP_WIDTH = 8;   // pixels
constexpr int WARP_HEIGHT = 4;  // pixels

// One lane's pixel.
struct Pixel {
  int x, y;       // of the image
  float px, py;   // centre, relative to the tile
  bool inside;    // within the image
  int64_t index;  // y width + x
};

struct Tile {
  int number;
  int64_t first, last;       // its pairs
  float origin_x, origin_y;  // pixels
};

__device__ __forceinline__ Tile this_tile(const BlendParams& p) {
  const int t = static_cast<int>(blockIdx.x);
  return {t, p.lists.start[t], p.lists.start[t + 1], static_cast<float>(t % p.lists.tiles_x * TILE),
          static_cast<float>(t / p.lists.tiles_x * TILE)};
}

__device__ __forceinline__ Pixel this_pixel(const BlendParams& p, const Tile& tile) {
  const int warp = warp_index(), lane = lane_index();
  const int x = warp % (TILE / WARP_WIDTH) * WARP_WIDTH + lane % WARP_WIDTH;
  const int y = warp / (TILE / WARP_WIDTH) * WARP_HEIGHT + lane / WARP_WIDTH;
  Pixel r;
  r.x = static_cast<int>(tile.origin_x) + x;
  r.y = static_cast<int>(tile.origin_y) + y;
  r.px = x + 0.5f;
  r.py = y + 0.5f;
  r.inside = r.x < p.camera.width && r.y < p.camera.height;
  r.index = int64_t(r.y) * p.camera.width + r.x;
  return r;
}

// The bits of a block mask that belong to this warp: two blocks side by side.
__device__ __forceinline__ uint32_t warp_blocks() {
  const int per_row = TILE / BLOCK, warp = warp_index();
  const int row = warp / (TILE / WARP_WIDTH) * (WARP_HEIGHT / BLOCK);
  const int column = warp % (TILE / WARP_WIDTH) * (WARP_WIDTH / BLOCK);
  static_assert(WARP_HEIGHT == BLOCK && WARP_WIDTH == 2 * BLOCK, "a warp covers two blocks");
  return 3u << (row * per_row + column);
}

// The options of the tile's pixels; its first splat is the origin of mapped depths.
__device__ __forceinline__ PixelOptions tile_options(const BlendParams& p, const Tile& tile) {
  SplatRecord none = {};
  if (tile.first == tile.last) return pixel_options(p.camera, none);
  none.inverse_depth = p.records[p.lists.splat[tile.first]].inverse_depth;
  return pixel_options(p.camera, none);
}

// Copies a record by whole quads; positions become relative to the tile: small numbers, so that
// single precision keeps their digits.
__device__ __forceinline__ void load_record(const BlendParams& p, const Tile& tile, int32_t splat,
                                            SplatRecord& out) {
  const float4* from = reinterpret_cast<const float4*>(p.records + splat);
  float4* to = reinterpret_cast<float4*>(&out);
  for (int k = 0; k < RECORD_FLOATS / 4; ++k) to[k] = from[k];
  out.x = (out.x - tile.origin_x) + out.x_rest;
  out.y = (out.y - tile.origin_y) + out.y_rest;
}

// Channel `c` of a splat's row: normal, colour, features.
__device__ __forceinline__ float splat_channel(const BlendParams& p, int32_t splat, int c) {
  if (c < 3) return p.shades[splat].normal[c];
  if (c < SHADE_CHANNELS) return p.shades[splat].color[c - 3];
  return p.features[int64_t(splat) * p.feature_count + c - SHADE_CHANNELS];
}

// Copies channels first .. first + count of the batch's splats, CHANNELS floats a row; the rest of
// a row is zero.
template <int CHANNELS>
__device__ __forceinline__ void load_rows(const BlendParams& p, const int32_t* splats, int batch,
                                          int first, int count, float* rows) {
  for (int i = threadIdx.x; i < batch * CHANNELS; i += TILE_THREADS) {
    const int c = i % CHANNELS;
    rows[i] = c < count ? splat_channel(p, splats[i / CHANNELS], first + c) : 0.0f;
  }
}

// Four numbers of a row at a time.
__device__ __forceinline__ float4 row_quad(const float* row, int k) {
  return reinterpret_cast<const float4*>(row)[k];
}

// Compiled channel widths: a number of channels is served by the smallest that holds it, more than
// the largest by several passes.
constexpr int WIDEST = 24;

}  // namespace cuda
}  // namespace iqgs
