// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "../common/params.h"

namespace iqgs {

// offset[n] = pairs of the splats before n, [count + 1]; returns the number of pairs M.
// Throws where M does not fit an int32.
int64_t count_pairs(const TileBox* boxes, int64_t count, int32_t* offset, int threads);

struct BinParams {
  TileGrid grid;
  int64_t count;               // N
  const SplatRecord* records;  // [N]
  const TileBox* boxes;        // [N]
  const int32_t* offset;       // [N + 1]
  int32_t* start;              // [tiles + 1] out
  int32_t* splat;              // [M] out, per tile by depth of the centre, ties by index
  int32_t* row;                // [M] out, offset[splat] + position of the tile in the box
};

// Sorts N depths (stable radix), then counts and scatters the splats into tiles in that order.
void bin_splats(const BinParams& p, int threads);

}  // namespace iqgs
