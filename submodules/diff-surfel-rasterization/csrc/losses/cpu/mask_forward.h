// SPDX-License-Identifier: Apache-2.0
// Focal and dice sums of all queries over a chunk of pixels; no logit leaves the cache.
#pragma once

#include "mask_run.h"

namespace iqgs {
namespace IQGS_ISA {

// Runs after which the lanes' sums go into doubles: 64 terms each.
constexpr int RUNS_PER_FLUSH = 64 / RUN_BLOCKS;

// The lanes' sums of one query.
struct LaneSums {
  F16 loss, wrong, own;
};

template <Focus F, bool OWNED, bool BALANCED>
IQGS_INLINE void add_block(const MaskLossParams& p, const PixelRun& run, const Answers& answers,
                           int query, int b, LaneSums& s) {
  F16 x = F16::load(answers.logits + b * LANES);
  const Mask own = owned_lanes(run.owner + b * LANES, query);
  if (OWNED) x = negate_where(own, x);
  const WrongAnswer<F16> a = wrong_answer(x, F16::load(answers.exponentials + b * LANES));
  F16 loss = focal_term<F>(a, x, F16(p.gamma)), wrong = a.chance;
  if (BALANCED) {
    const F16 off(1.0f - p.alpha);
    loss = loss * (OWNED ? select(own, F16(p.alpha), off) : off);
  }
  if (b * LANES + LANES > run.pixels) {
    const Mask there = block_lanes(run, b);
    loss = zero_unless(there, loss);
    wrong = zero_unless(there, wrong);
  }
  s.loss = s.loss + loss;
  s.wrong = s.wrong + wrong;
  if (OWNED) s.own = s.own + zero_unless(own, wrong);
}

template <Focus F, bool OWNED, bool BALANCED>
IQGS_PHASE void add_query(const MaskLossParams& p, const PixelRun& run, const Answers& answers,
                          int query, LaneSums& sums) {
  LaneSums s = sums;
  for (int b = 0; b < run.blocks; ++b) add_block<F, OWNED, BALANCED>(p, run, answers, query, b, s);
  sums = s;
}

IQGS_INLINE double lane_sum(const F16& a) {
  alignas(64) float m[LANES];
  a.store(m);
  double sums[4] = {};
  for (int i = 0; i < LANES; i += 4)
    for (int j = 0; j < 4; ++j) sums[j] += m[i + j];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

IQGS_PHASE void flush_sums(int queries, LaneSums* lanes, double* sums) {
  const F16 zero(0.0f);
  for (int m = 0; m < queries; ++m) {
    sums[m * MASK_SUMS + LOSS_SUM] += lane_sum(lanes[m].loss);
    sums[m * MASK_SUMS + WRONG_SUM] += lane_sum(lanes[m].wrong);
    sums[m * MASK_SUMS + OWN_WRONG_SUM] += lane_sum(lanes[m].own);
    lanes[m] = {zero, zero, zero};
  }
}

template <Focus F, bool BALANCED>
void sum_chunk(const MaskLossParams& p, int64_t first, int64_t last, double* sums, Arena& arena) {
  const int stride = row_stride(p.channels);
  Carver carver = {static_cast<char*>(
      arena.reserve(run_bytes(stride) + sizeof(float) * 2 * TILE_ROWS * RUN_PIXELS +
                    (sizeof(LaneSums) + sizeof(int64_t)) * p.query_count + 256))};
  RunSpace space = carve_run(carver, stride);
  float* logits = carver.take<float>(TILE_ROWS * RUN_PIXELS);
  float* exponentials = carver.take<float>(TILE_ROWS * RUN_PIXELS);
  LaneSums* lanes = carver.take<LaneSums>(p.query_count);
  __builtin_memset(static_cast<void*>(lanes), 0, sizeof(LaneSums) * p.query_count);
  int64_t* latest = carver.take<int64_t>(p.query_count);
  __builtin_memset(latest, -1, sizeof(int64_t) * p.query_count);
  int held = 0;
  for (int64_t at = first; at < last; at += RUN_PIXELS) {
    const int count = last - at < RUN_PIXELS ? static_cast<int>(last - at) : RUN_PIXELS;
    const PixelRun run = load_run(p, at, count, space);
    note_owners(p, run, at, latest, sums);
    for (int m = 0; m < p.query_count; m += TILE_ROWS) {
      fetch_ahead(p, at + RUN_PIXELS, m);
      tile_logits(p.queries + int64_t(m) * p.query_stride, p.channels, p.query_stride, run, logits);
      tile_exponentials(logits, run.blocks, exponentials);
      for (int i = 0; i < TILE_ROWS && m + i < p.query_count; ++i) {
        const Answers answers = {logits + i * RUN_PIXELS, exponentials + i * RUN_PIXELS};
        auto add =
            latest[m + i] == at ? add_query<F, true, BALANCED> : add_query<F, false, BALANCED>;
        add(p, run, answers, m + i, lanes[m + i]);
      }
    }
    if (++held < RUNS_PER_FLUSH && at + RUN_PIXELS < last) continue;
    flush_sums(p.query_count, lanes, sums);
    held = 0;
  }
}

// Sums [M, MASK_SUMS] over pixels first .. last.
void mask_sums(const MaskLossParams& p, int64_t first, int64_t last, double* sums, Arena& arena) {
  __builtin_memset(sums, 0, sizeof(double) * MASK_SUMS * p.query_count);
  auto run = [&](auto kernel) { kernel(p, first, last, sums, arena); };
  const bool balanced = p.alpha >= 0.0f;
  switch (focus_of(p.gamma)) {
    case Focus::FLAT:
      return balanced ? run(sum_chunk<Focus::FLAT, true>) : run(sum_chunk<Focus::FLAT, false>);
    case Focus::SQUARE:
      return balanced ? run(sum_chunk<Focus::SQUARE, true>) : run(sum_chunk<Focus::SQUARE, false>);
    default:
      return balanced ? run(sum_chunk<Focus::ANY, true>) : run(sum_chunk<Focus::ANY, false>);
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
