// SPDX-License-Identifier: Apache-2.0
// A tile's splats copied side by side, and the lists of those that each 4x4 block must visit.
#pragma once

#include "../common/bounds_math.h"
#include "kernels.h"
#include "lanes_math.h"

namespace iqgs {
namespace IQGS_ISA {

// A cache line's worth of floats: rows start on cache lines.
IQGS_INLINE int padded(int floats) {
  return (floats + LANES - 1) / LANES * LANES;
}

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

constexpr int SHAPE_FIELDS = 7;  // of a footprint that are used

// Channel order of a splat's row: normal, colour, features. Positions are relative to the tile.
struct TileBatch {
  int capacity;                // splats
  int row_stride;              // floats between two rows
  SplatRecord* records;        // [capacity]
  float* rows;                 // [capacity, row_stride]
  float* shape;                // [SHAPE_FIELDS, capacity] footprints, one array per field
  uint16_t* masks;             // [capacity] bit b: block b of the tile
  int32_t* lists;              // [BLOCKS_PER_TILE, list_stride] front to back
  int list_stride;             // capacity, and room for one vector written past the end
  int count[BLOCKS_PER_TILE];  // lengths of the lists
};

IQGS_INLINE size_t batch_bytes(int capacity, int channels) {
  size_t per_splat =
      sizeof(SplatRecord) + 4 * (padded(channels) + SHAPE_FIELDS + BLOCKS_PER_TILE) + 2;
  return per_splat * capacity + 4 * LANES * BLOCKS_PER_TILE + 64 * 8;
}

IQGS_INLINE TileBatch carve_batch(Carver& arena, int capacity, int channels) {
  TileBatch b;
  b.capacity = capacity;
  b.row_stride = padded(channels);
  b.records = arena.take<SplatRecord>(capacity);
  b.rows = arena.take<float>(static_cast<size_t>(capacity) * b.row_stride);
  b.shape = arena.take<float>(static_cast<size_t>(capacity) * SHAPE_FIELDS);
  b.masks = arena.take<uint16_t>(capacity);
  b.list_stride = capacity + LANES;
  b.lists = arena.take<int32_t>(static_cast<size_t>(b.list_stride) * BLOCKS_PER_TILE);
  return b;
}

IQGS_INLINE void copy_floats(const float* from, int count, float* to) {
  int c = 0;
  for (; c + LANES <= count; c += LANES) F16::load(from + c).store(to + c);
  for (; c < count; ++c) to[c] = from[c];
}

IQGS_INLINE void copy_row(const BlendParams& p, int64_t splat, float* row) {
  __builtin_memcpy(row, p.shades + splat, sizeof(SplatShade));  // rows have room for its padding
  copy_floats(p.features + p.feature_count * splat, p.feature_count, row + SHADE_CHANNELS);
}

struct TileOrigin {
  float x, y;  // pixels
};

IQGS_INLINE TileOrigin tile_origin(const TileLists& lists, int tile) {
  return {static_cast<float>(tile % lists.tiles_x * TILE),
          static_cast<float>(tile / lists.tiles_x * TILE)};
}

// Copies the records and rows of `count` pairs from pair `first` on.
IQGS_PHASE void load_splats(const BlendParams& p, int64_t first, int count, bool rows, bool shapes,
                            TileOrigin origin, TileBatch& b) {
  const int32_t* splat = p.lists.splat + first;
  constexpr int AHEAD = 12;  // pairs; hides the latency of rows that lie anywhere
  for (int i = 0; i < count; ++i) {
    if (i + AHEAD < count) {
      int64_t n = splat[i + AHEAD];
      __builtin_prefetch(p.records + n);
      if (rows) __builtin_prefetch(p.shades + n);
      if (rows) __builtin_prefetch(p.features + n * p.feature_count);
      if (shapes) __builtin_prefetch(p.footprints + n);
    }
    // Positions in pixels of the tile: small numbers, so that float32 keeps their digits.
    const SplatRecord& record = p.records[splat[i]];
    F16::load(&record.x).store(&b.records[i].x);
    b.records[i].x = (record.x - origin.x) + record.x_rest;
    b.records[i].y = (record.y - origin.y) + record.y_rest;
    if (rows) copy_row(p, splat[i], b.rows + static_cast<int64_t>(i) * b.row_stride);
  }
}

// Copies the footprints, one array per field, padded to whole vectors by repeating the last.
// Positions stay those of the image.
IQGS_PHASE void load_shapes(const BlendParams& p, int64_t first, int count, TileBatch& b) {
  const int32_t* splat = p.lists.splat + first;
  for (int i = 0; i < count; i += 4) {
    Quad low[4], high[4], fields[8];
    for (int j = 0; j < 4; ++j) {
      const int at = i + j < count ? i + j : count - 1;
      const float* f = reinterpret_cast<const float*>(p.footprints + splat[at]);
      low[j] = load_quad(f);
      high[j] = load_quad(f + 4);
    }
    transpose_four(low, fields);
    transpose_four(high, fields + 4);
    for (int k = 0; k < SHAPE_FIELDS; ++k) store_quad(b.shape + k * b.capacity + i, fields[k]);
  }
}

// Block masks of sixteen splats from `first` on.
IQGS_PHASE void mask_sixteen(TileBatch& b, int first, TileOrigin origin) {
  F16 f[SHAPE_FIELDS];
  for (int k = 0; k < SHAPE_FIELDS; ++k) f[k] = F16::load(b.shape + k * b.capacity + first);
  alignas(64) float ax[LANES], ay[LANES];
  for (int i = 0; i < LANES; ++i) {
    int n = first + i < b.capacity ? first + i : first;
    ax[i] = b.records[n].x + b.records[n].anchor_x;
    ay[i] = b.records[n].y + b.records[n].anchor_y;
  }
  const Shape<F16> shape = {
      f[0] - F16(origin.x), f[1] - F16(origin.y), f[2], f[3], f[4], f[5], f[6],
      F16::load(ax),        F16::load(ay)};
  I16 bits(0);
  for (int band = 0; band < TILE / BLOCK; ++band) {
    float y = BLOCK * band + 0.5f;
    Span<F16> s = band_span(shape, F16(y), F16(y + BLOCK - 1));
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
IQGS_PHASE void list_blocks(TileBatch& b, int count, uint32_t wanted) {
  for (int k = 0; k < BLOCKS_PER_TILE; ++k) b.count[k] = 0;
#if defined(__AVX512F__)
  // Sixteen masks at a time: the positions of those with bit k close up to the left.
  const __m512i step = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int i = 0; i < count; i += LANES) {
    const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b.masks + i));
    const uint32_t valid = count - i < LANES ? (1u << (count - i)) - 1u : 0xffffu;
    const __m512i masks = _mm512_maskz_cvtepu16_epi32(static_cast<__mmask16>(valid), raw);
    const __m512i position = _mm512_add_epi32(step, _mm512_set1_epi32(i));
    for (uint32_t blocks = wanted; blocks; blocks &= blocks - 1) {
      const int k = __builtin_ctz(blocks);
      const __mmask16 hit = _mm512_test_epi32_mask(masks, _mm512_set1_epi32(1 << k));
      _mm512_storeu_si512(b.lists + k * b.list_stride + b.count[k],
                          _mm512_maskz_compress_epi32(hit, position));
      b.count[k] += __builtin_popcount(hit);
    }
  }
#else
  for (int i = 0; i < count; ++i) {
    for (uint32_t bits = b.masks[i] & wanted; bits; bits &= bits - 1) {
      int k = __builtin_ctz(bits);
      b.lists[k * b.list_stride + b.count[k]++] = i;
    }
  }
#endif
}

// Pixel centres of a block, one per lane, row by row.
struct BlockPixels {
  int x, y;     // first pixel, in the image
  F16 px, py;   // relative to the tile
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

// Whether no pixel of the block lies outside the image.
IQGS_INLINE bool whole_block(const BlendParams& p, const BlockPixels& b) {
  return b.x + BLOCK <= p.camera.width && b.y + BLOCK <= p.camera.height;
}

IQGS_INLINE void store_block(const BlendParams& p, const BlockPixels& b, const F16& value,
                             float* plane) {
  const int64_t w = p.camera.width;
  const int h = p.camera.height;
  float* out = plane + b.y * w + b.x;
  if (whole_block(p, b)) {
    store_quad(out, quad_of<0>(value));
    store_quad(out + w, quad_of<1>(value));
    store_quad(out + 2 * w, quad_of<2>(value));
    store_quad(out + 3 * w, quad_of<3>(value));
    return;
  }
  alignas(64) float m[LANES];
  value.store(m);
  for (int j = 0; j < BLOCK && b.y + j < h; ++j)
    for (int i = 0; i < BLOCK && b.x + i < w; ++i) out[j * w + i] = m[BLOCK * j + i];
}

// Zero outside the image, and where there is no plane.
IQGS_INLINE F16 load_block(const BlendParams& p, const BlockPixels& b, const float* plane) {
  if (!plane) return F16(0.0f);
  const int64_t w = p.camera.width;
  const int h = p.camera.height;
  const float* in = plane + b.y * w + b.x;
  if (whole_block(p, b))
    return join_quads(load_quad(in), load_quad(in + w), load_quad(in + 2 * w),
                      load_quad(in + 3 * w));
  alignas(64) float m[LANES] = {};
  for (int j = 0; j < BLOCK && b.y + j < h; ++j)
    for (int i = 0; i < BLOCK && b.x + i < w; ++i) m[BLOCK * j + i] = in[j * w + i];
  return F16::load(m);
}

}  // namespace IQGS_ISA
}  // namespace iqgs
