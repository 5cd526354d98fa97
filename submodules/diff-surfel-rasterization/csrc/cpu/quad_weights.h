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

// Pixels y width + x that are looked up, and what is found: rows of a sparse matrix.
struct QuadLookup {
  QuadTable table;
  const int64_t* pixels;     // [P]
  int64_t pixel_count;       // P
  const int64_t* row_start;  // [P + 1] null while counting
  int32_t* count;            // [P] out while counting
  int32_t* splat;            // [nnz] out
  float* weight;             // [nnz] out
};
void look_up_pixels(const QuadLookup& p, int threads);

// Renumbers the splats that occur 0 .. U - 1 in ascending order; returns them.
std::vector<int64_t> renumber_splats(int32_t* splat, int64_t count, int64_t splat_count);

}  // namespace iqgs
