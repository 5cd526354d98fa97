// SPDX-License-Identifier: Apache-2.0
// Products with stored blending weights, by pixels or by quads, and the transposed products. Queued
// on `stream`; memory belongs to the caller.
#pragma once

#include <cstddef>

#include "../common/quads.h"
#include "../common/sparse.h"

namespace iqgs {
namespace cuda {

// Where an entry's weight lies, and what it is multiplied with: the chosen row, or the quad's first
// pixel.
struct alignas(8) EntryPlace {
  uint32_t entry;
  int32_t owner;
};

// The entries of a table by splat, in their order within each.
struct EntriesBySplat {
  const int64_t* start;  // [N + 1] first place of each splat
  const EntryPlace* place;
  int64_t splats, entries;
};

// Bytes of working memory of the transposed products over `entries` weights.
size_t scatter_rows_bytes(int64_t entries, int64_t splats, int channels);
size_t scatter_quads_bytes(int64_t entries, int channels);

// out [P, C] = sum over the row's entries of weight * values [N, C].
void gather_rows(const SparseParams& p, const float* values, float* out, void* stream);

// out [N, C] = transposed product with grad [P, C]. place [P + 1]: where the entries of each of the
// chosen rows lie among all of theirs, `entries` in number; row_start where all rows are chosen.
void scatter_rows(const SparseParams& p, const int64_t* place, int64_t entries, const float* grad,
                  float* out, void* memory, void* stream);

// out [H W, C] from values [N, C], and out [N, C] from grad [H W, C].
void gather_quads(const QuadTable& t, int channels, const float* values, float* out, void* stream);
void scatter_quads(const QuadTable& t, const EntriesBySplat& by, int channels, const float* grad,
                   float* out, void* memory, void* stream);

}  // namespace cuda
}  // namespace iqgs
