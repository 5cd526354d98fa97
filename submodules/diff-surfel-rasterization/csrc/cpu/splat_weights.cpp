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

}  // namespace

void gather_values(const SparseParams& p, const float* values, float* out, int threads) {
  parallel_for(p.row_count, ROWS_PER_CHUNK, threads, [&](int64_t i, Arena&) {
    float* sum = out + i * p.channels;
    std::fill(sum, sum + p.channels, 0.0f);
    const int64_t row = row_of(p, i);
    for (int64_t k = p.row_start[row]; k < p.row_start[row + 1]; ++k) {
      const float w = p.weight[k];
      const float* value = values + int64_t(p.splat[k]) * p.channels;
      for (int c = 0; c < p.channels; ++c) sum[c] += w * value[c];
    }
  });
}

void scatter_grads(const SparseParams& p, const float* grad_out, float* grad_values, int threads) {
  // Transpose the used rows by counting: entries of a splat keep the order of the rows.
  std::vector<int64_t> start(p.splat_count + 1, 0);
  for (int64_t i = 0; i < p.row_count; ++i) {
    const int64_t row = row_of(p, i);
    for (int64_t k = p.row_start[row]; k < p.row_start[row + 1]; ++k) ++start[p.splat[k] + 1];
  }
  for (int64_t n = 0; n < p.splat_count; ++n) start[n + 1] += start[n];
  struct Entry {
    int64_t out_row;
    float weight;
  };
  std::vector<Entry> entries(start[p.splat_count]);
  std::vector<int64_t> next(start.begin(), start.end() - 1);
  for (int64_t i = 0; i < p.row_count; ++i) {
    const int64_t row = row_of(p, i);
    for (int64_t k = p.row_start[row]; k < p.row_start[row + 1]; ++k)
      entries[next[p.splat[k]]++] = {i, p.weight[k]};
  }
  parallel_for(p.splat_count, ROWS_PER_CHUNK, threads, [&](int64_t n, Arena&) {
    float* sum = grad_values + n * p.channels;
    std::fill(sum, sum + p.channels, 0.0f);
    for (int64_t k = start[n]; k < start[n + 1]; ++k) {
      const float* grad = grad_out + entries[k].out_row * p.channels;
      for (int c = 0; c < p.channels; ++c) sum[c] += entries[k].weight * grad[c];
    }
  });
}

}  // namespace iqgs
