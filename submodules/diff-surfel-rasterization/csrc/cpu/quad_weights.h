// SPDX-License-Identifier: Apache-2.0
// What is done with the weights of a view by quads, on all threads. Memory belongs to the caller.
#pragma once

#include <vector>

#include "kernels.h"

namespace iqgs {

// Replaces the splat of each entry by its row: the splat itself in the first even and in the first
// odd band that it reaches, a further row in each later one. Returns the splats of these.
std::vector<int32_t> assign_rows(const QuadGrid& grid, const int64_t* start, int32_t* row,
                                 int64_t splat_count);

// out [H W, C] = sum over the entries of weight * values [N, C].
void gather_quads(const QuadProductParams& p, int threads);

// The transposed product: out [N + S, C], whose first N rows are the result. The same bits for any
// number of threads: a band is summed quad by quad, even bands before odd ones, further rows last.
void scatter_quads(const QuadProductParams& p, int threads);

// The weights of chosen pixels y width + x as rows of a sparse matrix.
class PixelRows {
 public:
  // Looks the pixels [P] up; row_start [P + 1] out.
  PixelRows(const QuadTable& table, const int64_t* pixels, int64_t count, int64_t* row_start,
            int threads);
  // The splats that occur, ascending.
  const std::vector<int64_t>& touched() const { return touched_; }
  // Columns among the touched splats and weights, both [row_start[P]] out.
  void write(int32_t* column, float* weight) const;

 private:
  struct Found {
    int32_t splat;
    float weight;
  };
  std::vector<int64_t> place_;  // [P + 1] of each pixel's entries in `found_`, with gaps
  const int64_t* row_start_;
  std::vector<Found> found_;
  std::vector<uint64_t> seen_;   // a bit a splat
  std::vector<int32_t> before_;  // bits set before each word
  std::vector<int64_t> touched_;
};

}  // namespace iqgs
