// SPDX-License-Identifier: Apache-2.0
// What the mask losses and their gradients share. A run of pixels meets a tile of queries at a
// time: a small matrix product gives their logits, sixteen pixels in the lanes of a vector. All of
// it stays in the first-level cache.
#pragma once

#include "../../cpu/carver.h"
#include "../../cpu/lanes_math.h"
#include "../mask_math.h"

namespace iqgs {
namespace IQGS_ISA {

constexpr int RUN_PIXELS = 128;
constexpr int RUN_BLOCKS = RUN_PIXELS / LANES;
// Queries, or pixels, whose accumulators fit in registers. Rows of queries are filled up to it.
#if defined(__AVX512F__)
constexpr int TILE_ROWS = 8;
#elif defined(__AVX2__)
constexpr int TILE_ROWS = 4;
#else
constexpr int TILE_ROWS = 2;
#endif
static_assert(MASK_QUERY_PADDING % TILE_ROWS == 0, "tiles must be full");
constexpr int LINE_BYTES = 64;

// At least one vector, so that no channel at all is no special case.
IQGS_INLINE int row_stride(int channels) {
  return padded(channels < 1 ? 1 : channels);
}

// Up to RUN_PIXELS pixels; the last block may be partly empty: its rows there are zero.
struct PixelRun {
  const float* rows;     // [blocks * LANES, stride]
  float* columns;        // [blocks, stride, LANES]
  const int32_t* owner;  // [blocks * LANES]
  int stride;            // channels, rounded up to whole vectors
  int pixels;
  int blocks;
};

// Working memory of a run.
struct RunSpace {
  float* rows;
  float* columns;
  int32_t* owner;
};

IQGS_INLINE RunSpace carve_run(Carver& carver, int stride) {
  RunSpace s;
  s.rows = carver.take<float>(RUN_PIXELS * stride);
  s.columns = carver.take<float>(RUN_PIXELS * stride);
  s.owner = carver.take<int32_t>(RUN_PIXELS);
  return s;
}

IQGS_INLINE size_t run_bytes(int stride) {
  return sizeof(float) * RUN_PIXELS * (2 * size_t(stride) + 1) + 256;
}

// Pixels first .. first + count: rows of whole vectors and their transpose. Rows are copied only
// where they are ragged or the last block is not full.
IQGS_PHASE PixelRun load_run(const MaskLossParams& p, int64_t first, int count, RunSpace& s) {
  PixelRun run = {p.features + first * p.channels, s.columns, p.owner + first,
                  row_stride(p.channels),          count,     (count + LANES - 1) / LANES};
  const int whole = run.blocks * LANES;
  if (run.stride != p.channels || whole != count) {
    __builtin_memset(s.rows, 0, sizeof(float) * whole * run.stride);
    for (int i = 0; i < count; ++i)
      __builtin_memcpy(s.rows + i * run.stride, run.rows + int64_t(i) * p.channels,
                       sizeof(float) * p.channels);
    run.rows = s.rows;
  }
  if (whole != count) {
    for (int i = 0; i < whole; ++i) s.owner[i] = i < count ? run.owner[i] : -1;
    run.owner = s.owner;
  }
  for (int b = 0; b < run.blocks; ++b)
    for (int i = 0; i < LANES; i += 4)
      for (int c = 0; c < run.stride; c += 4)
        transpose_four(run.rows + (b * LANES + i) * run.stride + c, run.stride,
                       s.columns + (b * run.stride + c) * LANES + i, LANES);
  return run;
}

// Calls for one part of the run from pixel `next` on: spread over the tiles of the run before, the
// lines come while there is work.
IQGS_INLINE void fetch_ahead(const MaskLossParams& p, int64_t next, int query) {
  if (next + RUN_PIXELS > p.pixel_count) return;
  const int64_t bytes = sizeof(float) * p.channels * RUN_PIXELS;
  const int64_t share = bytes / ((p.query_count + TILE_ROWS - 1) / TILE_ROWS) + LINE_BYTES;
  const int64_t begin = share * (query / TILE_ROWS);
  const char* from = reinterpret_cast<const char*>(p.features + next * p.channels);
  for (int64_t i = begin; i < begin + share && i < bytes; i += LINE_BYTES)
    __builtin_prefetch(from + i);
}

// Lanes of block b that are pixels.
IQGS_INLINE Mask block_lanes(const PixelRun& run, int b) {
  static const float LANE[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return F16::load(LANE) < F16(static_cast<float>(run.pixels - b * LANES));
}

// Notes in `latest` [M] that run `number` is the last with pixels of a query, and counts these in
// column AREA_SUM of `sums` unless that is null.
IQGS_PHASE void note_owners(const MaskLossParams& p, const PixelRun& run, int64_t number,
                            int64_t* latest, double* sums) {
  for (int i = 0; i < run.pixels; ++i) {
    const int32_t m = run.owner[i];
    if (m < 0 || m >= p.query_count) continue;
    latest[m] = number;
    if (sums) ++sums[m * MASK_SUMS + AREA_SUM];
  }
}

IQGS_INLINE Mask owned_lanes(const int32_t* owner, int query) {
  return equal(I16::from_bits(F16::load(reinterpret_cast<const float*>(owner))), I16(query));
}

// Logits [TILE_ROWS, RUN_PIXELS] of the queries from row `query` on.
IQGS_PHASE void tile_logits(const float* query, int channels, int query_stride, const PixelRun& run,
                            float* logits) {
  for (int b = 0; b < run.blocks; ++b) {
    const float* column = run.columns + b * run.stride * LANES;
    F16 sum[TILE_ROWS];
#pragma GCC unroll 8
    for (int m = 0; m < TILE_ROWS; ++m) sum[m] = F16(0.0f);
#pragma GCC unroll 4
    for (int c = 0; c < channels; ++c) {
      const F16 value = F16::load(column + LANES * c);
#pragma GCC unroll 8
      for (int m = 0; m < TILE_ROWS; ++m)
        sum[m] = fused(F16(query[m * query_stride + c]), value, sum[m]);
    }
#pragma GCC unroll 8
    for (int m = 0; m < TILE_ROWS; ++m) sum[m].store(logits + m * RUN_PIXELS + b * LANES);
  }
}

// e^-|logit| [TILE_ROWS, RUN_PIXELS]. A loop of its own: one after the other, exponential and
// logarithm are a longer chain of dependent operations than a processor looks ahead.
IQGS_PHASE void tile_exponentials(const float* logits, int blocks, float* exponentials) {
  for (int m = 0; m < TILE_ROWS; ++m)
    for (int b = 0; b < blocks; ++b) {
      const int at = m * RUN_PIXELS + b * LANES;
      unlikeliness(F16::load(logits + at)).store(exponentials + at);
    }
}

// Of one query at the pixels of a run. The kernels know two cases: OWNED, the query owns some of
// the pixels, or it owns none. Label maps are made of patches, so none is the usual case, and then
// nothing has to be selected.
struct Answers {
  float* logits;
  const float* exponentials;
};

}  // namespace IQGS_ISA
}  // namespace iqgs
