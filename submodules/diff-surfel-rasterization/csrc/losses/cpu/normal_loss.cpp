// SPDX-License-Identifier: Apache-2.0
#include "normal_loss.h"

#include <algorithm>
#include <vector>

#include "../../cpu/parallel.h"
#include "kernels.h"

namespace iqgs {
namespace {

constexpr int LEAST_ROWS = 16;      // of a part: two rows round it are computed twice
constexpr int PARTS_OF_THREAD = 2;  // so that one who comes late finds less to do

}  // namespace

double normal_sum(const NormalLossParams& p, int threads) {
  std::vector<double> sums(p.height);
  const int wished = threads > 1 ? PARTS_OF_THREAD * threads : 1;
  const int even = (p.height + wished - 1) / wished;
  const int rows = std::min(p.height, std::max(even, LEAST_ROWS));
  const auto kernel = loss_kernels().compare_normals;
  parallel_for((p.height + rows - 1) / rows, 1, threads, [&](int64_t item, Arena& arena) {
    const int first = static_cast<int>(item) * rows;
    kernel(p, first, std::min(p.height, first + rows), sums.data() + first, arena);
  });
  double total = 0.0;
  for (const double row : sums) total += row;
  return total;
}

}  // namespace iqgs
