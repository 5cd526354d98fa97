// SPDX-License-Identifier: Apache-2.0
// A block of 256 threads is a tile of 16 x 16 pixels, a warp eight by four of them, each half of a
// warp a block of 4 x 4. The tile's splats are copied to shared memory batch by batch; each half
// visits those whose footprint meets its own pixels: at any time the two are at different splats.
#pragma once

#include "../common/pixel_math.h"
#include "kernels.h"
#include "warp.h"

namespace iqgs {
namespace cuda {

constexpr int TILE_THREADS = TILE * TILE;
constexpr int TILE_WARPS = TILE_THREADS / WARP;
constexpr int WARP_WIDTH = 8;   // pixels
constexpr int WARP_HEIGHT = 4;  // pixels
constexpr int HALF = WARP / 2;
static_assert(HALF == BLOCK_PIXELS && WARP_HEIGHT == BLOCK && WARP_WIDTH == 2 * BLOCK,
              "half a warp is a block");

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
  const int warp = warp_index(), lane = lane_index(), within = lane % HALF;
  const int x = warp % (TILE / WARP_WIDTH) * WARP_WIDTH + lane / HALF * BLOCK + within % BLOCK;
  const int y = warp / (TILE / WARP_WIDTH) * WARP_HEIGHT + within / BLOCK;
  Pixel r;
  r.x = static_cast<int>(tile.origin_x) + x;
  r.y = static_cast<int>(tile.origin_y) + y;
  r.px = x + 0.5f;
  r.py = y + 0.5f;
  r.inside = r.x < p.camera.width && r.y < p.camera.height;
  r.index = int64_t(r.y) * p.camera.width + r.x;
  return r;
}

// Bits 2 w and 2 w + 1 of a block mask belong to the left and the right half of warp w.
static_assert(TILE == 2 * WARP_WIDTH && TILE / BLOCK == 4, "two warps a row of four blocks");

__device__ __forceinline__ uint32_t left_block() {
  return 1u << (2 * warp_index());
}

// Each lane brings the block mask of a splat, zero where it has none; returns, a bit a lane, those
// that may reach the block of this half of the warp.
__device__ __forceinline__ unsigned half_bits(uint32_t mask) {
  const uint32_t left = left_block();
  const unsigned on_the_left = __ballot_sync(EVERY_LANE, mask & left);
  const unsigned on_the_right = __ballot_sync(EVERY_LANE, mask & (left << 1));
  return lane_index() < HALF ? on_the_left : on_the_right;
}

// The options of the tile's pixels; its first splat is the origin of mapped depths.
__device__ __forceinline__ PixelOptions tile_options(const BlendParams& p, const Tile& tile) {
  SplatRecord none = {};
  if (tile.first == tile.last) return pixel_options(p.camera, none);
  none.inverse_depth = p.records[p.lists.splat[tile.first]].inverse_depth;
  return pixel_options(p.camera, none);
}

// Records in shared memory, spread so that those which two halves read seldom share banks.
struct RecordRows {
  static constexpr int STRIDE = RECORD_FLOATS + 4;
  float* memory;
  __device__ __forceinline__ SplatRecord& operator[](int i) const {
    return *reinterpret_cast<SplatRecord*>(memory + i * STRIDE);
  }
};

// Floats from one splat's channels to the next in shared memory: no multiple of 16, for the same
// reason.
__host__ __device__ constexpr int row_stride(int channels) {
  return channels % 16 || channels == 0 ? channels : channels + 4;
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

// Channel `c` of a splat's row: normal and colour, side by side in its shade, then features.
__device__ __forceinline__ float splat_channel(const BlendParams& p, int32_t splat, int c) {
  static_assert(SHADE_CHANNELS == 6 && offsetof(SplatShade, color) == 3 * sizeof(float), "in turn");
  if (c < SHADE_CHANNELS) return reinterpret_cast<const float*>(p.shades + splat)[c];
  return p.features[int64_t(splat) * p.feature_count + c - SHADE_CHANNELS];
}

// Copies channels first .. first + count of the batch's splats; the rest of CHANNELS is zero.
// Several numbers a thread are on their way at a time.
template <int CHANNELS>
__device__ __forceinline__ void load_rows(const BlendParams& p, const int32_t* splats, int batch,
                                          int first, int count, float* rows) {
  constexpr int IN_FLIGHT = 6;
  const int thread = static_cast<int>(threadIdx.x), numbers = batch * CHANNELS;
  for (int at = thread; at < numbers; at += IN_FLIGHT * TILE_THREADS) {
    float values[IN_FLIGHT];
#pragma unroll
    for (int k = 0; k < IN_FLIGHT; ++k) {
      const int i = at + k * TILE_THREADS, c = i % CHANNELS;
      values[k] = 0.0f;
      if (i < numbers && c < count) values[k] = splat_channel(p, splats[i / CHANNELS], first + c);
    }
#pragma unroll
    for (int k = 0; k < IN_FLIGHT; ++k) {
      const int i = at + k * TILE_THREADS;
      if (i < numbers) rows[i / CHANNELS * row_stride(CHANNELS) + i % CHANNELS] = values[k];
    }
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
