// SPDX-License-Identifier: Apache-2.0
#include "splat_weights.h"

#include <algorithm>
#include <vector>

#include "parallel.h"

namespace iqgs {
namespace {

constexpr int64_t ROWS_PER_CHUNK = 512;

int64_t row_of(const SparseParams& p, int64_t i) {
  return p.rows ? p.rows[i] : i;
}

void gather(const RowProductParams& p, int threads) {
  const int64_t rows = p.matrix.row_count, chunks = (rows + ROWS_PER_CHUNK - 1) / ROWS_PER_CHUNK;
  parallel_for(chunks, 1, threads, [&](int64_t c, Arena&) {
    kernels().gather_rows(p, c * ROWS_PER_CHUNK, std::min(rows, (c + 1) * ROWS_PER_CHUNK));
  });
}

// The used rows the other way round; entries of a splat keep the order of the rows.
struct Transposed {
  std::vector<int64_t> start;
  std::vector<int32_t> row;
  std::vector<float> weight;
};

Transposed transposed(const SparseParams& p) {
  Transposed t;
  t.start.assign(p.splat_count + 1, 0);
  for (int64_t i = 0; i < p.row_count; ++i) {
    const int64_t row = row_of(p, i);
    for (int64_t k = p.row_start[row]; k < p.row_start[row + 1]; ++k) ++t.start[p.splat[k] + 1];
  }
  for (int64_t n = 0; n < p.splat_count; ++n) t.start[n + 1] += t.start[n];
  t.row.resize(t.start[p.splat_count]);
  t.weight.resize(t.row.size());
  std::vector<int64_t> next(t.start.begin(), t.start.end() - 1);
  for (int64_t i = 0; i < p.row_count; ++i) {
    const int64_t row = row_of(p, i);
    for (int64_t k = p.row_start[row]; k < p.row_start[row + 1]; ++k) {
      const int64_t at = next[p.splat[k]]++;
      t.row[at] = static_cast<int32_t>(i);
      t.weight[at] = p.weight[k];
    }
  }
  return t;
}

}  // namespace

void gather_values(const SparseParams& p, const float* values, float* out, int threads) {
  gather({p, values, out}, threads);
}

void scatter_grads(const SparseParams& p, const float* grad_out, float* grad_values, int threads) {
  if (threads <= 1) {
    std::fill(grad_values, grad_values + p.splat_count * p.channels, 0.0f);
    kernels().scatter_rows({p, grad_out, grad_values}, 0, p.row_count);
    return;
  }
  const Transposed t = transposed(p);
  gather({{t.start.data(), t.row.data(), t.weight.data(), nullptr, p.splat_count, p.row_count,
           p.channels},
          grad_out,
          grad_values},
         threads);
}

}  // namespace iqgs
