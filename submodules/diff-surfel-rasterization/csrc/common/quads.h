// SPDX-License-Identifier: Apache-2.0
// The blending weights of a view by quads: two by two pixels, and for each splat that one of them
// keeps, four weights in half precision. A quad is as wide as pays: on the benchmark scene a splat
// has 2.6 of the 4 weights of a quad that it touches, but 5.6 of the 16 of a 4x4 block.
//
// Quads lie in bands of BAND_QUADS rows; within a band they follow each other column by column, so
// that a short window of splats serves many quads. Every other band is summed at the same time: a
// splat that reaches two even bands, or two odd ones, has a further row (`extra`) in the second, so
// that no two share one, and the sums are made in one order whatever the number of threads.
#pragma once

#include <cstdint>
#include <cstring>

#include "constants.h"
#include "scalar.h"

namespace iqgs {

constexpr int QUAD = 2;  // pixels along the side
constexpr int QUAD_PIXELS = QUAD * QUAD;
constexpr int BAND_QUADS = 2 * TILE / QUAD;

struct QuadGrid {
  int width, height;  // pixels
};

SURFEL_HD int quads_x(const QuadGrid& g) {
  return (g.width + QUAD - 1) / QUAD;
}
SURFEL_HD int quads_y(const QuadGrid& g) {
  return (g.height + QUAD - 1) / QUAD;
}
SURFEL_HD int64_t quad_count(const QuadGrid& g) {
  return static_cast<int64_t>(quads_x(g)) * quads_y(g);
}
SURFEL_HD int band_count(const QuadGrid& g) {
  return (quads_y(g) + BAND_QUADS - 1) / BAND_QUADS;
}
// Quads before band `b`; for b = band_count the number of quads.
SURFEL_HD int64_t band_start(const QuadGrid& g, int b) {
  const int64_t row = static_cast<int64_t>(b) * BAND_QUADS;
  return quads_x(g) * (row < quads_y(g) ? row : quads_y(g));
}
SURFEL_HD int band_height(const QuadGrid& g, int b) {
  const int left = quads_y(g) - b * BAND_QUADS;
  return left < BAND_QUADS ? left : BAND_QUADS;
}

struct QuadPlace {
  int x, y;  // column and row among the quads
};

SURFEL_HD int64_t quad_index(const QuadGrid& g, QuadPlace p) {
  const int b = p.y / BAND_QUADS;
  return band_start(g, b) + static_cast<int64_t>(p.x) * band_height(g, b) + p.y % BAND_QUADS;
}

SURFEL_HD QuadPlace quad_place(const QuadGrid& g, int64_t quad) {
  const int64_t whole = static_cast<int64_t>(quads_x(g)) * BAND_QUADS;
  const int b = static_cast<int>(quad / whole);
  const int in_band = static_cast<int>(quad - b * whole), high = band_height(g, b);
  return {in_band / high, b * BAND_QUADS + in_band % high};
}

struct QuadTable {
  QuadGrid grid;
  const int64_t* start;    // [quads + 1] first entry of each quad
  const int32_t* row;      // [E] front to back; row r < N is splat r, N + k is of extra[k]
  const uint16_t* weight;  // [E, 4] halves, >= 0
  const int32_t* extra;    // [S]
  int64_t splat_count;     // N
  int64_t extra_count;     // S
};

SURFEL_HD int32_t splat_of_row(const QuadTable& t, int32_t row) {
  return row < t.splat_count ? row : t.extra[row - t.splat_count];
}

// A half as a float; exact, for the non-negative numbers that weights are.
SURFEL_HD float half_to_float(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 13;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value *
         5192296858534827628530496329220096.0f;  // 2^112: what the exponents' offsets differ
}

}  // namespace iqgs
