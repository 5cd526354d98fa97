// SPDX-License-Identifier: Apache-2.0
#include "image_loss.h"

#include <algorithm>
#include <vector>

#include "../../cpu/parallel.h"
#include "kernels.h"

namespace iqgs {
namespace {

constexpr int VECTOR = 16;                     // columns of a part are a multiple, but for the last
constexpr int LEAST_ROWS = 16;                 // of a part
constexpr double ROWS_AGAIN = 16.0;            // what a part costs beside its rows: those round it
constexpr int64_t PIXELS_AT_ONCE = 16 * 1024;  // of the gradient

// How a channel is cut: so many columns a part, so many rows.
struct Cut {
  int columns, rows;
  int across, down;
};

Cut cut_rows(int width, int height, int across, int down) {
  const int even = (width + across - 1) / across;
  const int columns = (even + VECTOR - 1) / VECTOR * VECTOR;
  const int rows = (height + down - 1) / down;
  return {columns, rows, (width + columns - 1) / columns, (height + rows - 1) / rows};
}

// The cut that keeps the threads busy with the least work done twice. Nothing depends on it but
// time: every row of a part is computed alike, and the rows' sums are added by row.
Cut choose_cut(const ImageLossParams& p, int threads) {
  const int across = (p.width + IMAGE_PART_WIDTH - 1) / IMAGE_PART_WIDTH;
  Cut best = cut_rows(p.width, p.height, across, 1);
  double least = 0.0;
  for (int down = 1; down <= std::max(1, p.height / LEAST_ROWS); ++down) {
    const Cut cut = cut_rows(p.width, p.height, across, down);
    const int64_t parts = int64_t(p.channels) * cut.across * cut.down;
    const int64_t turns = (parts + threads - 1) / threads;
    const double cost = turns * (cut.rows + (cut.down > 1 ? ROWS_AGAIN : 0.0));
    if (down == 1 || cost < least) {
      least = cost;
      best = cut;
    }
  }
  return best;
}

}  // namespace

ImageSums image_sums(const ImageLossParams& p, int threads) {
  const Cut cut = choose_cut(p, std::max(threads, 1));
  const int columns = cut.across;
  // Of the columns of parts, row by row.
  std::vector<ImageSums> sums(int64_t(p.channels) * columns * p.height);
  const auto kernel = loss_kernels().compare_images;
  const int64_t parts = int64_t(p.channels) * columns * cut.down;
  parallel_for(parts, 1, threads, [&](int64_t item, Arena& arena) {
    const int down = static_cast<int>(item % cut.down), column = static_cast<int>(item / cut.down);
    const int across = column % columns;
    ImagePart part = {column / columns, down * cut.rows, 0, across * cut.columns, 0};
    part.last_row = std::min(p.height, part.first_row + cut.rows);
    part.last_column = std::min(p.width, part.first_column + cut.columns);
    kernel(p, part, sums.data() + int64_t(column) * p.height + part.first_row, arena);
  });
  ImageSums total = {};
  for (const ImageSums& row : sums) {
    total.difference += row.difference;
    total.similarity += row.similarity;
    total.weight += row.weight;
  }
  return total;
}

void image_grads(const ImageGradParams& p, const ImageScales& scales, int threads) {
  const int64_t pixels = int64_t(p.forward.height) * p.forward.width;
  const int64_t pieces = (pixels + PIXELS_AT_ONCE - 1) / PIXELS_AT_ONCE;
  const auto kernel = loss_kernels().image_grad;
  parallel_for(p.forward.channels * pieces, 1, threads, [&](int64_t item, Arena&) {
    const int64_t first = item % pieces * PIXELS_AT_ONCE;
    kernel(p, scales, static_cast<int>(item / pieces), first,
           std::min(pixels, first + PIXELS_AT_ONCE));
  });
}

}  // namespace iqgs
