// SPDX-License-Identifier: Apache-2.0
// A tile's splats copied side by side, and the lists of those that each 4x4 block must visit.
#pragma once

#include "kernels.h"
#include "lanes_math.h"

namespace iqgs {
namespace IQGS_ISA {

// A cache line's worth of floats: rows start on cache lines.
IQGS_INLINE int padded(int floats) { return (floats + LANES - 1) / LANES * LANES; }

// Splits an arena into arrays.
struct Carver {
  char* next;
  template <class T>
  IQGS_INLINE T* take(size_t count) {
    T* r = reinterpret_cast<T*>(next);
    next += (count * sizeof(T) + 63) / 64 * 64;
    return r;
  }
};

// Channel order of a splat's row: normal, colour, features. Positions are relative to the tile.
struct TileBatch {
  int capacity;                // splats
  int row_stride;              // floats between two rows
  SplatRecord* records;        // [capacity]
  float* rows;                 // [capacity, row_stride]
  float* shape;                // [7, capacity] footprints, one array per field
  uint16_t* masks;             // [capacity] bit b: block b of the tile
  int32_t* lists;              // [BLOCKS_PER_TILE, capacity] front to back
  int count[BLOCKS_PER_TILE];  // lengths of the lists
};

IQGS_INLINE size_t batch_bytes(int capacity, int channels) {
  size_t per_splat = sizeof(SplatRecord) + 4 * padded(channels) + 4 * 7 + 2 + 4 * BLOCKS_PER_TILE;
  return per_splat * capacity + 64 * 8;
}

IQGS_INLINE TileBatch carve_batch(Carver& arena, int capacity, int channels) {
  TileBatch b;
  b.capacity = capacity;
  b.row_stride = padded(channels);
  b.records = arena.take<SplatRecord>(capacity);
  b.rows = arena.take<float>(static_cast<size_t>(capacity) * b.row_stride);
  b.shape = arena.take<float>(static_cast<size_t>(capacity) * 7);
  b.masks = arena.take<uint16_t>(capacity);
  b.lists = arena.take<int32_t>(static_cast<size_t>(capacity) * BLOCKS_PER_TILE);
  return b;
}

IQGS_INLINE void copy_row(const BlendParams& p, int64_t splat, float* row) {
  __builtin_memcpy(row, p.shades + splat, sizeof(SplatShade));  // rows have room for its padding
  const float* feature = p.features + p.feature_count * splat;
  for (int c = 0; c < p.feature_count; ++c) row[SHADE_CHANNELS + c] = feature[c];
}

// Positions in pixels of the tile: small numbers, so that float32 keeps their digits.
IQGS_INLINE SplatRecord in_tile(const SplatRecord& s, float tile_x, float tile_y) {
  SplatRecord r = s;
  r.x = (s.x - tile_x) + s.x_rest;
  r.y = (s.y - tile_y) + s.y_rest;
  return r;
}

struct TileOrigin {
  float x, y;  // pixels
};

IQGS_INLINE TileOrigin tile_origin(const TileLists& lists, int tile) {
  return {static_cast<float>(tile % lists.tiles_x * TILE),
          static_cast<float>(tile / lists.tiles_x * TILE)};
}

// Copies the records and rows of `count` pairs from pair `first` on.
IQGS_INLINE void load_splats(const BlendParams& p, int64_t first, int count, bool rows,
                             TileOrigin origin, TileBatch& b) {
  const int32_t* splat = p.lists.splat + first;
  constexpr int AHEAD = 6;  // pairs; hides the latency of rows that lie anywhere
  for (int i = 0; i < count; ++i) {
    if (i + AHEAD < count) {
      int64_t n = splat[i + AHEAD];
      __builtin_prefetch(p.records + n);
      if (rows) __builtin_prefetch(p.shades + n);
      if (rows) __builtin_prefetch(p.features + n * p.feature_count);
    }
    b.records[i] = in_tile(p.records[splat[i]], origin.x, origin.y);
    if (rows) copy_row(p, splat[i], b.rows + static_cast<int64_t>(i) * b.row_stride);
  }
}

// Copies the footprints, one array per field, padded to whole vectors by repeating the last.
IQGS_INLINE void load_shapes(const BlendParams& p, int64_t first, int count, TileOrigin origin,
                             TileBatch& b) {
  for (int i = 0; i < padded(count); ++i) {
    const Footprint& f = p.footprints[p.lists.splat[first + (i < count ? i : count - 1)]];
    const float m[7] = {f.x - origin.x, f.y - origin.y, f.half_x, f.half_y, f.slope, f.chord, f.disc};
    for (int k = 0; k < 7; ++k) b.shape[k * b.capacity + i] = m[k];
  }
}

struct Span {
  F16 low, high;  // empty where low > high
};

// The columns that an ellipse or its low-pass disc covers in rows y0 .. y1 of pixel centres.
IQGS_INLINE Span band_span(const F16* f, const F16& anchor_x, const F16& anchor_y, const F16& y0,
                           const F16& y1) {
  const F16 one(1.0f), zero(0.0f), far(EVERYWHERE), tiny(1e-20f);
  const F16 &x = f[0], &y = f[1], &half_x = f[2], &half_y = f[3], &slope = f[4];
  const F16 &chord = f[5], &disc = f[6];
  F16 low = larger(y0 - y, -half_y), high = smaller(y1 - y, half_y);
  Mask hit = low <= high;
  F16 tip = slope * half_y * half_y / half_x;  // row of the rightmost point, relative to y
  F16 right_y = smaller(larger(tip, low), high), left_y = smaller(larger(-tip, low), high);
  F16 inverse = one / larger(half_y, tiny);
  F16 r = right_y * inverse, l = left_y * inverse;
  F16 right = x + fused(slope, right_y, chord * root(larger(one - r * r, zero)));
  F16 left = x + fused(slope, left_y, -(chord * root(larger(one - l * l, zero))));
  Span s = {select(hit, left, far), select(hit, right, -far)};
  F16 dy = smaller(larger(zero, y0 - anchor_y), y1 - anchor_y);
  F16 rest = disc * disc - dy * dy;
  F16 reach = root(larger(rest, zero));
  Mask disc_hit = rest >= zero;
  s.low = select(disc_hit, smaller(s.low, anchor_x - reach), s.low);
  s.high = select(disc_hit, larger(s.high, anchor_x + reach), s.high);
  return s;
}

// Block masks of sixteen splats from `first` on.
IQGS_INLINE void mask_sixteen(TileBatch& b, int first) {
  F16 f[7];
  for (int k = 0; k < 7; ++k) f[k] = F16::load(b.shape + k * b.capacity + first);
  alignas(64) float ax[LANES], ay[LANES];
  for (int i = 0; i < LANES; ++i) {
    int n = first + i < b.capacity ? first + i : first;
    ax[i] = b.records[n].x + b.records[n].anchor_x;
    ay[i] = b.records[n].y + b.records[n].anchor_y;
  }
  const F16 anchor_x = F16::load(ax), anchor_y = F16::load(ay);
  I16 bits(0);
  for (int band = 0; band < TILE / BLOCK; ++band) {
    float y = BLOCK * band + 0.5f;
    Span s = band_span(f, anchor_x, anchor_y, F16(y), F16(y + BLOCK - 1));
    for (int column = 0; column < TILE / BLOCK; ++column) {
      float x = BLOCK * column + 0.5f;
      Mask hit = (s.low <= F16(x + BLOCK - 1)) & (s.high >= F16(x));
      bits = select(hit, bits | I16(1 << (band * (TILE / BLOCK) + column)), bits);
    }
  }
  alignas(64) int32_t m[LANES];
  bits.store(m);
  for (int i = 0; i < LANES && first + i < b.capacity; ++i)
    b.masks[first + i] = static_cast<uint16_t>(m[i]);
}

// The lists of the blocks from the masks; blocks outside `wanted` stay empty.
IQGS_INLINE void list_blocks(TileBatch& b, int count, uint32_t wanted) {
  for (int k = 0; k < BLOCKS_PER_TILE; ++k) b.count[k] = 0;
  for (int i = 0; i < count; ++i) {
    for (uint32_t bits = b.masks[i] & wanted; bits; bits &= bits - 1) {
      int k = __builtin_ctz(bits);
      b.lists[k * b.capacity + b.count[k]++] = i;
    }
  }
}

// Pixel centres of a block, one per lane, row by row.
struct BlockPixels {
  int x, y;    // first pixel, in the image
  F16 px, py;  // relative to the tile
  Mask inside;  // within the image
};

IQGS_INLINE BlockPixels block_pixels(const BlendParams& p, int tile, int block) {
  static const float column[LANES] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
  static const float line[LANES] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
  BlockPixels b;
  b.x = tile % p.lists.tiles_x * TILE + block % (TILE / BLOCK) * BLOCK;
  b.y = tile / p.lists.tiles_x * TILE + block / (TILE / BLOCK) * BLOCK;
  b.px = F16::load(column) + F16(block % (TILE / BLOCK) * BLOCK + 0.5f);
  b.py = F16::load(line) + F16(block / (TILE / BLOCK) * BLOCK + 0.5f);
  const TileOrigin origin = tile_origin(p.lists, tile);
  b.inside = (b.px < F16(p.camera.width - origin.x)) & (b.py < F16(p.camera.height - origin.y));
  return b;
}

IQGS_INLINE void store_block(const BlendParams& p, const BlockPixels& b, const F16& value,
                             float* plane) {
  alignas(64) float m[LANES];
  value.store(m);
  const int w = p.camera.width, h = p.camera.height;
  float* out = plane + static_cast<int64_t>(b.y) * w + b.x;
  if (b.x + BLOCK <= w && b.y + BLOCK <= h) {
    for (int j = 0; j < BLOCK; ++j)
      __builtin_memcpy(out + static_cast<int64_t>(j) * w, m + BLOCK * j, BLOCK * sizeof(float));
    return;
  }
  for (int j = 0; j < BLOCK && b.y + j < h; ++j)
    for (int i = 0; i < BLOCK && b.x + i < w; ++i)
      out[static_cast<int64_t>(j) * w + i] = m[BLOCK * j + i];
}

IQGS_INLINE F16 load_block(const BlendParams& p, const BlockPixels& b, const float* plane) {
  if (!plane) return F16(0.0f);
  alignas(64) float m[LANES] = {};
  const int w = p.camera.width, h = p.camera.height;
  const float* in = plane + static_cast<int64_t>(b.y) * w + b.x;
  if (b.x + BLOCK <= w && b.y + BLOCK <= h) {
    for (int j = 0; j < BLOCK; ++j)
      __builtin_memcpy(m + BLOCK * j, in + static_cast<int64_t>(j) * w, BLOCK * sizeof(float));
  } else {
    for (int j = 0; j < BLOCK && b.y + j < h; ++j)
      for (int i = 0; i < BLOCK && b.x + i < w; ++i)
        m[BLOCK * j + i] = in[static_cast<int64_t>(j) * w + i];
  }
  return F16::load(m);
}

}  // namespace IQGS_ISA
}  // namespace iqgs
