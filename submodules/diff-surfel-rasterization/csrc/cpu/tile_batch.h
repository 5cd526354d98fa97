// SPDX-License-Identifier: Apache-2.0
// A tile's splats copied side by side, and the lists of those that each patch of pixels must visit.
#pragma once

#include "../common/bounds_math.h"
#include "carver.h"
#include "half_planes.h"
#include "kernels.h"
#include "lanes_math.h"

namespace iqgs {
namespace IQGS_ISA {

constexpr int SHAPE_FIELDS = 7;  // of a footprint that are used

// A patch is one vector of pixels, the unit of culling: 4x4 with AVX-512, else 4x2. Smaller ones
// leave fewer lanes idle where splats are small.
constexpr int PATCH_WIDTH = 4;
constexpr int PATCH_HEIGHT = PATCH / PATCH_WIDTH;
constexpr int PATCHES_ACROSS = TILE / PATCH_WIDTH;
constexpr int PATCHES = PATCHES_ACROSS * (TILE / PATCH_HEIGHT);  // of a tile
static_assert(PATCHES <= 32, "a mask has 32 bits");
constexpr uint32_t EVERY_PATCH = 0xffffffffu >> (32 - PATCHES);

// Channel order of a splat's row: normal, colour, features. Positions are relative to the tile.
struct TileBatch {
  int capacity;          // splats
  int row_stride;        // floats between two rows
  SplatRecord* records;  // [capacity]
  float* rows;           // [capacity, row_stride]
  float* shape;          // [SHAPE_FIELDS, capacity] footprints, one array per field
  uint32_t* masks;       // [capacity] bit k: patch k of the tile
  int32_t* lists;        // [PATCHES, list_stride] front to back
  int list_stride;       // capacity, and room for one vector written past the end
  int count[PATCHES];    // lengths of the lists
};

IQGS_INLINE size_t batch_bytes(int capacity, int channels) {
  size_t per_splat = sizeof(SplatRecord) + 4 * (padded(channels) + SHAPE_FIELDS + PATCHES + 1);
  return per_splat * capacity + 4 * LANES * (PATCHES + 1) + 64 * 8;
}

IQGS_INLINE TileBatch carve_batch(Carver& arena, int capacity, int channels) {
  TileBatch b;
  b.capacity = capacity;
  b.row_stride = padded(channels);
  b.records = arena.take<SplatRecord>(capacity);
  b.rows = arena.take<float>(static_cast<size_t>(capacity) * b.row_stride);
  b.shape = arena.take<float>(static_cast<size_t>(capacity) * SHAPE_FIELDS);
  b.masks = arena.take<uint32_t>(capacity + LANES);
  b.list_stride = capacity + LANES;
  b.lists = arena.take<int32_t>(static_cast<size_t>(b.list_stride) * PATCHES);
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

// Fetches what part `part` of `parts` of the pairs [first, first + count) will read into the second
// level of the cache: memory works while the pixels of the batch before are computed.
IQGS_INLINE void fetch_ahead(const BlendParams& p, int64_t first, int count, int part, int parts,
                             bool shapes) {
  const int32_t* splat = p.lists.splat + first;
  for (int i = count * part / parts; i < count * (part + 1) / parts; ++i) {
    const int64_t n = splat[i];
    __builtin_prefetch(p.records + n, 0, 2);
    __builtin_prefetch(p.shades + n, 0, 2);
    __builtin_prefetch(p.features + n * p.feature_count, 0, 2);
    if (shapes) __builtin_prefetch(p.footprints + n, 0, 2);
  }
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

// Patches of the tile that a splat without an ellipse may reach, its low-pass disc aside.
IQGS_INLINE uint32_t unbounded_patches(const SplatRecord& s, float near) {
  const HalfPlane<F16> h = half_planes(s, near, TILE);
  const float middle = 0.5f * TILE, half = 0.5f * (TILE - 1);
  if (!meet_box(h, middle, middle, half, half)) return 0;
  constexpr float half_x = 0.5f * (PATCH_WIDTH - 1), half_y = 0.5f * (PATCH_HEIGHT - 1);
  uint32_t bits = 0;
  for (int k = 0; k < PATCHES; ++k) {
    const float x = k % PATCHES_ACROSS * PATCH_WIDTH + 0.5f * PATCH_WIDTH;
    const float y = k / PATCHES_ACROSS * PATCH_HEIGHT + 0.5f * PATCH_HEIGHT;
    bits |= uint32_t(meet_box(h, x, y, half_x, half_y)) << k;
  }
  return bits;
}

// Patch masks of sixteen splats from `first` on; they all lie in front of `near`.
IQGS_PHASE void mask_sixteen(TileBatch& b, int first, TileOrigin origin, float near) {
  F16 f[SHAPE_FIELDS];
  for (int k = 0; k < SHAPE_FIELDS; ++k) f[k] = F16::load(b.shape + k * b.capacity + first);
  alignas(64) float ax[LANES], ay[LANES];
  for (int i = 0; i < LANES; ++i) {
    int n = first + i < b.capacity ? first + i : first;
    ax[i] = b.records[n].x + b.records[n].anchor_x;
    ay[i] = b.records[n].y + b.records[n].anchor_y;
  }
  // Without an ellipse the shape is the disc alone.
  const Mask crossing = unbounded(f[3]);
  f[3] = select(crossing, F16(-1.0f), f[3]);
  const Shape<F16> shape = {
      f[0] - F16(origin.x), f[1] - F16(origin.y), f[2], f[3], f[4], f[5], f[6],
      F16::load(ax),        F16::load(ay)};
  I16 bits(0);
  for (int k = 0; k < PATCHES; k += PATCHES_ACROSS) {
    float y = k / PATCHES_ACROSS * PATCH_HEIGHT + 0.5f;
    Span<F16> s = band_span(shape, F16(y), F16(y + PATCH_HEIGHT - 1));
    for (int column = 0; column < PATCHES_ACROSS; ++column) {
      float x = PATCH_WIDTH * column + 0.5f;
      Mask hit = (s.low <= F16(x + PATCH_WIDTH - 1)) & (s.high >= F16(x));
      bits = select(hit, bits | I16(static_cast<int32_t>(1u << (k + column))), bits);
    }
  }
  bits.store(reinterpret_cast<int32_t*>(b.masks + first));
  for (uint32_t lanes = lane_bits(crossing); lanes; lanes &= lanes - 1) {
    const int n = first + __builtin_ctz(lanes);
    if (n < b.capacity) b.masks[n] |= unbounded_patches(b.records[n], near);
  }
}

#if defined(__AVX2__) && !defined(__AVX512F__)
// For each byte the positions of its bits, lowest first.
struct CloseUp {
  uint8_t at[256][8];
};
constexpr CloseUp close_up() {
  CloseUp table = {};
  for (int byte = 0; byte < 256; ++byte) {
    int n = 0;
    for (int bit = 0; bit < 8; ++bit)
      if ((byte >> bit) & 1) table.at[byte][n++] = static_cast<uint8_t>(bit);
  }
  return table;
}
alignas(64) constexpr CloseUp CLOSE_UP = close_up();
static_assert(PATCHES == 32, "the highest bit of a mask is the last patch");
#endif

// The lists of the patches from the masks; patches outside `wanted` stay empty.
IQGS_PHASE void list_patches(TileBatch& b, int count, uint32_t wanted) {
  for (int k = 0; k < PATCHES; ++k) b.count[k] = 0;
#if defined(__AVX512F__)
  // Sixteen masks at a time: the positions of those with bit k close up to the left.
  const __m512i step = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int i = 0; i < count; i += LANES) {
    const uint32_t valid = count - i < LANES ? (1u << (count - i)) - 1u : 0xffffu;
    const __m512i masks = _mm512_maskz_loadu_epi32(static_cast<__mmask16>(valid), b.masks + i);
    const __m512i position = _mm512_add_epi32(step, _mm512_set1_epi32(i));
    for (uint32_t patches = wanted; patches; patches &= patches - 1) {
      const int k = __builtin_ctz(patches);
      const __mmask16 hit = _mm512_test_epi32_mask(masks, _mm512_set1_epi32(1 << k));
      _mm512_storeu_si512(b.lists + k * b.list_stride + b.count[k],
                          _mm512_maskz_compress_epi32(hit, position));
      b.count[k] += __builtin_popcount(hit);
    }
  }
#elif defined(__AVX2__)
  // The same for eight: bit k of the masks becomes eight bits, and these choose the positions.
  const __m256i step = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (int i = 0; i < count; i += 8) {
    __m256i masks = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b.masks + i));
    if (count - i < 8)
      masks = _mm256_and_si256(masks, _mm256_cmpgt_epi32(_mm256_set1_epi32(count - i), step));
    masks = _mm256_and_si256(masks, _mm256_set1_epi32(static_cast<int32_t>(wanted)));
    const __m256i first = _mm256_set1_epi32(i);
    for (int k = PATCHES - 1; k >= 0; --k, masks = _mm256_add_epi32(masks, masks)) {
      const int hit = _mm256_movemask_ps(_mm256_castsi256_ps(masks));
      const __m128i chosen = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(CLOSE_UP.at[hit]));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(b.lists + k * b.list_stride + b.count[k]),
                          _mm256_add_epi32(first, _mm256_cvtepu8_epi32(chosen)));
      b.count[k] += __builtin_popcount(static_cast<unsigned>(hit));
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

// Pixel centres of a patch, one per lane, row by row.
struct PatchPixels {
  int x, y;      // first pixel, in the image
  FP px, py;     // relative to the tile
  MaskP inside;  // within the image
};

IQGS_INLINE PatchPixels patch_pixels(const BlendParams& p, int tile, int patch) {
  static const float column[LANES] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
  static const float line[LANES] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
  const int x = patch % PATCHES_ACROSS * PATCH_WIDTH, y = patch / PATCHES_ACROSS * PATCH_HEIGHT;
  PatchPixels b;
  b.x = tile % p.lists.tiles_x * TILE + x;
  b.y = tile / p.lists.tiles_x * TILE + y;
  b.px = FP::load(column) + FP(x + 0.5f);
  b.py = FP::load(line) + FP(y + 0.5f);
  const TileOrigin origin = tile_origin(p.lists, tile);
  b.inside = (b.px < FP(p.camera.width - origin.x)) & (b.py < FP(p.camera.height - origin.y));
  return b;
}

}  // namespace IQGS_ISA
}  // namespace iqgs
