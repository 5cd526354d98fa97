// SPDX-License-Identifier: Apache-2.0
#include "mask_loss.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "../../cpu/parallel.h"
#include "kernels.h"

namespace iqgs {
namespace {

constexpr int64_t LEAST_CHUNK = 2048;  // pixels, a multiple of the kernels' runs
constexpr int64_t MOST_CHUNKS = 256;
constexpr int LANES = 16;

// Runs work(first, last, sums, arena) for every chunk of pixels, each with `count` sums of its own,
// and adds these up in the order of the chunks. Without sums only the work is done.
std::vector<double> sum_chunks(int64_t pixels, int64_t count, int threads,
                               const std::function<void(int64_t, int64_t, double*, Arena&)>& work) {
  const int64_t fair = (pixels + MOST_CHUNKS - 1) / MOST_CHUNKS;
  const int64_t size = (std::max(fair, int64_t(1)) + LEAST_CHUNK - 1) / LEAST_CHUNK * LEAST_CHUNK;
  const int64_t chunks = (pixels + size - 1) / size;
  std::vector<double> partial(chunks * count), sums(count, 0.0);
  parallel_for(chunks, 1, threads, [&](int64_t c, Arena& arena) {
    work(c * size, std::min(pixels, (c + 1) * size), partial.data() + c * count, arena);
  });
  for (int64_t c = 0; c < chunks; ++c)
    for (int64_t i = 0; i < count; ++i) sums[i] += partial[c * count + i];
  return sums;
}

int64_t padded_count(const MaskLossParams& p) {
  return (int64_t(p.query_count) + MASK_QUERY_PADDING - 1) / MASK_QUERY_PADDING *
         MASK_QUERY_PADDING;
}

// Whole tiles of rows of whole vectors, filled up with zeros.
std::vector<float> padded_queries(const MaskLossParams& p, int stride) {
  std::vector<float> rows(padded_count(p) * stride, 0.0f);
  for (int64_t m = 0; m < p.query_count; ++m)
    std::copy_n(p.queries + m * p.query_stride, p.channels, rows.data() + m * stride);
  return rows;
}

// The same problem on padded queries.
MaskLossParams on_padded(const MaskLossParams& p, const std::vector<float>& rows, int stride) {
  MaskLossParams r = p;
  r.queries = rows.data();
  r.query_stride = stride;
  return r;
}

int vector_stride(int channels) {
  return (std::max(channels, 1) + LANES - 1) / LANES * LANES;
}

}  // namespace

void mask_losses(const MaskLossParams& given, float* focal, float* dice, MaskOverlap* overlap,
                 int threads) {
  const int stride = vector_stride(given.channels);
  const std::vector<float> rows = padded_queries(given, stride);
  const MaskLossParams p = on_padded(given, rows, stride);
  const auto kernel = loss_kernels().mask_sums;
  const std::vector<double> sums = sum_chunks(
      p.pixel_count, int64_t(p.query_count) * MASK_SUMS, threads,
      [&](int64_t first, int64_t last, double* out, Arena& a) { kernel(p, first, last, out, a); });
  for (int m = 0; m < p.query_count; ++m) {
    const double* own = sums.data() + m * MASK_SUMS;
    overlap[m] = mask_overlap(own);
    focal[m] = mean_focal(p, own);
    dice[m] = mask_dice(own);
  }
}

void mask_loss_grads(const MaskLossParams& given, const MaskOverlap* overlap,
                     const float* grad_focal, const float* grad_dice, float* grad_queries,
                     float* grad_features, int threads) {
  if (given.query_count == 0) {  // nobody writes them
    const int64_t numbers = given.pixel_count * given.channels;
    if (grad_features) std::fill(grad_features, grad_features + numbers, 0.0f);
    return;
  }
  const int stride = vector_stride(given.channels);
  const std::vector<float> rows = padded_queries(given, stride);
  std::vector<MaskSlopes> slopes(given.query_count);
  for (int m = 0; m < given.query_count; ++m)
    slopes[m] = mask_slopes(given, overlap[m], grad_focal[m], grad_dice[m]);
  const MaskGradParams p = {on_padded(given, rows, stride), slopes.data(), grad_features};
  const auto kernel = loss_kernels().mask_grads;
  const int64_t count = grad_queries ? padded_count(given) * stride : 0;
  const std::vector<double> sums = sum_chunks(
      given.pixel_count, count, threads, [&](int64_t first, int64_t last, double* out, Arena& a) {
        kernel(p, first, last, grad_queries ? out : nullptr, a);
      });
  if (!grad_queries) return;
  for (int64_t m = 0; m < given.query_count; ++m)
    for (int c = 0; c < given.channels; ++c)
      grad_queries[m * given.channels + c] = static_cast<float>(sums[m * stride + c]);
}

}  // namespace iqgs
