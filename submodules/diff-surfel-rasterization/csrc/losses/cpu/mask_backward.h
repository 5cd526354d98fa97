// SPDX-License-Identifier: Apache-2.0
// Gradients of the mask losses over a chunk of pixels. The logits are made again; for the two
// products with their slopes sixteen channels are in the lanes, so that nothing is summed over
// lanes.
#pragma once

#include "mask_run.h"

namespace iqgs {
namespace IQGS_ISA {

// Queries whose slopes are held at once.
constexpr int QUERIES_AT_ONCE = 16;

// Logits of one query become dL/dlogit, zero where there is no pixel.
template <Focus F, bool OWNED>
IQGS_PHASE void slopes_of(const MaskGradParams& g, const PixelRun& run, int query,
                          const Answers& answers) {
  const MaskSlopes& s = g.slopes[query];
  const F16 gamma(g.forward.gamma);
  const F16 on_focal(s.on_focal), on_chance(s.on_chance);
  const F16 off_focal(s.off_focal), off_chance(s.off_chance);
  for (int b = 0; b < run.blocks; ++b) {
    const Mask own = owned_lanes(run.owner + b * LANES, query);
    F16 x = F16::load(answers.logits + b * LANES);
    if (OWNED) x = negate_where(own, x);
    const WrongAnswer<F16> a = wrong_answer(x, F16::load(answers.exponentials + b * LANES));
    const F16 focal = OWNED ? select(own, on_focal, off_focal) : off_focal;
    const F16 chance = OWNED ? select(own, on_chance, off_chance) : off_chance;
    fused(focal, focal_slope<F>(a, x, gamma), chance * a.product).store(answers.logits + b * LANES);
  }
  for (int i = run.pixels; i < run.blocks * LANES; ++i) answers.logits[i] = 0.0f;
}

// sums[m] += sum over the run's pixels of slope * row, for TILE_ROWS queries, sixteen channels.
IQGS_PHASE void add_query_grads(const float* slopes, const PixelRun& run, int channel,
                                double* sums) {
  F16 sum[TILE_ROWS];
#pragma GCC unroll 8
  for (int m = 0; m < TILE_ROWS; ++m) sum[m] = F16(0.0f);
  const float* row = run.rows + channel;
#pragma GCC unroll 4
  for (int i = 0; i < run.blocks * LANES; ++i) {
    const F16 value = F16::load(row + i * run.stride);
#pragma GCC unroll 8
    for (int m = 0; m < TILE_ROWS; ++m)
      sum[m] = fused(F16(slopes[m * RUN_PIXELS + i]), value, sum[m]);
  }
  alignas(64) float stored[LANES];
  for (int m = 0; m < TILE_ROWS; ++m) {
    sum[m].store(stored);
    double* out = sums + m * run.stride + channel;
    for (int c = 0; c < LANES; ++c) out[c] += stored[c];
  }
}

// grads[pixel] += sum over queries of slope * query, or = for the first queries.
IQGS_PHASE void add_pixel_grads(const float* slopes, int queries, const float* query,
                                int query_stride, const PixelRun& run, float* grads, bool first) {
  for (int at = 0; at < run.blocks * LANES; at += TILE_ROWS) {
    F16 sum[TILE_ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < TILE_ROWS; ++i)
      sum[i] = first ? F16(0.0f) : F16::load(grads + (at + i) * run.stride);
    for (int m = 0; m < queries; ++m) {
      const F16 row = F16::load(query + m * query_stride);
      const float* slope = slopes + m * RUN_PIXELS + at;
#pragma GCC unroll 8
      for (int i = 0; i < TILE_ROWS; ++i) sum[i] = fused(F16(slope[i]), row, sum[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < TILE_ROWS; ++i) sum[i].store(grads + (at + i) * run.stride);
  }
}

// Working memory of the gradients of a chunk.
struct GradSpace {
  RunSpace run;
  float* slopes;        // [QUERIES_AT_ONCE, RUN_PIXELS]
  float* exponentials;  // [TILE_ROWS, RUN_PIXELS]
  float* features;      // [RUN_PIXELS, stride]; null where not wanted
  int64_t* latest;      // [M] see `note_owners`
};

template <Focus F>
IQGS_INLINE void differentiate_run(const MaskGradParams& g, const PixelRun& run, int64_t at,
                                   GradSpace& s, double* sums) {
  const MaskLossParams& p = g.forward;
  for (int first = 0; first < p.query_count; first += QUERIES_AT_ONCE) {
    const int left = p.query_count - first, count = left < QUERIES_AT_ONCE ? left : QUERIES_AT_ONCE;
    const float* query = p.queries + int64_t(first) * p.query_stride;
    for (int m = 0; m < count; m += TILE_ROWS) {
      float* slopes = s.slopes + m * RUN_PIXELS;
      fetch_ahead(p, at + RUN_PIXELS, first + m);
      tile_logits(query + m * p.query_stride, p.channels, p.query_stride, run, slopes);
      tile_exponentials(slopes, run.blocks, s.exponentials);
      for (int i = 0; i < TILE_ROWS && m + i < count; ++i) {
        const Answers answers = {slopes + i * RUN_PIXELS, s.exponentials + i * RUN_PIXELS};
        const int query = first + m + i;
        auto turn = s.latest[query] == at ? slopes_of<F, true> : slopes_of<F, false>;
        turn(g, run, query, answers);
      }
      if (!sums) continue;
      for (int c = 0; c < run.stride; c += LANES)
        add_query_grads(slopes, run, c, sums + int64_t(first + m) * run.stride);
    }
    if (!s.features) continue;
    for (int c = 0; c < run.stride; c += LANES)
      add_pixel_grads(s.slopes, count, query + c, p.query_stride, run, s.features + c, first == 0);
  }
}

template <Focus F>
void differentiate_chunk(const MaskGradParams& g, int64_t first, int64_t last, double* sums,
                         Arena& arena) {
  const MaskLossParams& p = g.forward;
  const int stride = row_stride(p.channels);
  Carver carver = {static_cast<char*>(
      arena.reserve(run_bytes(stride) +
                    sizeof(float) * RUN_PIXELS * (QUERIES_AT_ONCE + TILE_ROWS + size_t(stride)) +
                    sizeof(int64_t) * p.query_count + 512))};
  GradSpace s;
  s.run = carve_run(carver, stride);
  s.slopes = carver.take<float>(QUERIES_AT_ONCE * RUN_PIXELS);
  s.exponentials = carver.take<float>(TILE_ROWS * RUN_PIXELS);
  s.latest = carver.take<int64_t>(p.query_count);
  __builtin_memset(s.latest, -1, sizeof(int64_t) * p.query_count);
  float* const copy = g.features ? carver.take<float>(RUN_PIXELS * stride) : nullptr;
  for (int64_t at = first; at < last; at += RUN_PIXELS) {
    const int count = last - at < RUN_PIXELS ? static_cast<int>(last - at) : RUN_PIXELS;
    const PixelRun run = load_run(p, at, count, s.run);
    note_owners(p, run, at, s.latest, nullptr);
    // Straight into the result where that has whole vectors and blocks.
    const bool direct = g.features && stride == p.channels && count % LANES == 0;
    s.features = direct ? g.features + at * stride : copy;
    differentiate_run<F>(g, run, at, s, sums);
    if (!g.features || direct) continue;
    for (int i = 0; i < count; ++i)
      __builtin_memcpy(g.features + (at + i) * p.channels, s.features + i * stride,
                       sizeof(float) * p.channels);
  }
}

// Gradients of the features of pixels first .. last, and the sums [M filled up, stride] of those
// of the queries; either is null where not wanted.
void mask_grads(const MaskGradParams& g, int64_t first, int64_t last, double* sums, Arena& arena) {
  switch (focus_of(g.forward.gamma)) {
    case Focus::FLAT:
      return differentiate_chunk<Focus::FLAT>(g, first, last, sums, arena);
    case Focus::SQUARE:
      return differentiate_chunk<Focus::SQUARE>(g, first, last, sums, arena);
    default:
      return differentiate_chunk<Focus::ANY>(g, first, last, sums, arena);
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
