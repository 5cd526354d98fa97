// SPDX-License-Identifier: Apache-2.0
// Rows of a sparse matrix times dense values, and transposed.
#pragma once

#include "channel_runs.h"
#include "kernels.h"

namespace iqgs {
namespace IQGS_ISA {

constexpr int64_t ENTRIES_AHEAD = 16;  // whose values are on their way to the cache

IQGS_INLINE int64_t row_of(const SparseParams& p, int64_t i) {
  return p.rows ? p.rows[i] : i;
}

// Rows first .. last: out [P, C] = sum over the row's entries of weight * values [N, C].
void gather_rows(const RowProductParams& p, int64_t first, int64_t last) {
  const SparseParams& m = p.matrix;
  const int64_t stride = m.channels;
  for (int64_t i = first; i < last; ++i) {
    const int64_t row = row_of(m, i), begin = m.row_start[row], end = m.row_start[row + 1];
    float* const out = p.out + i * stride;
    if (m.channels < 4) {
      for (int c = 0; c < m.channels; ++c) out[c] = 0.0f;
      for (int64_t k = begin; k < end; ++k)
        for (int c = 0; c < m.channels; ++c)
          out[c] += m.weight[k] * p.values[m.splat[k] * stride + c];
      continue;
    }
    each_run(m.channels, [&](auto run) {
      typename decltype(run)::Vector sum, value;
      clear(sum);
      const float* const values = p.values + run.column;
      for (int64_t k = begin; k < end; ++k) {
        if (k + ENTRIES_AHEAD < end)
          __builtin_prefetch(values + m.splat[k + ENTRIES_AHEAD] * stride);
        load_row(values + m.splat[k] * stride, value);
        sum = scaled(m.weight[k], value, sum);
      }
      store_row(out + run.column, sum);
    });
  }
}

// Adds rows first .. last of values [P, C] to out [N, C], entry by entry: the sums are those of
// `gather_rows` with the transposed matrix, bit by bit.
void scatter_rows(const RowProductParams& p, int64_t first, int64_t last) {
  const SparseParams& m = p.matrix;
  const int64_t stride = m.channels;
  for (int64_t i = first; i < last; ++i) {
    const int64_t row = row_of(m, i), begin = m.row_start[row], end = m.row_start[row + 1];
    const float* const values = p.values + i * stride;
    if (m.channels < 4) {
      for (int64_t k = begin; k < end; ++k)
        for (int c = 0; c < m.channels; ++c)
          p.out[m.splat[k] * stride + c] += m.weight[k] * values[c];
      continue;
    }
    each_run(m.channels, [&](auto run) {
      using Vector = typename decltype(run)::Vector;
      const Vector value = load_gradients<Vector>(values + run.column, run.done);
      float* const out = p.out + run.column;
      for (int64_t k = begin; k < end; ++k) {
        if (k + ENTRIES_AHEAD < end) __builtin_prefetch(out + m.splat[k + ENTRIES_AHEAD] * stride);
        Vector sum;
        load_row(out + m.splat[k] * stride, sum);
        store_row(out + m.splat[k] * stride, scaled(m.weight[k], value, sum));
      }
    });
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
