// SPDX-License-Identifier: Apache-2.0
// Rows of sixteen splats as columns, one splat per lane, and back.
#pragma once

#include "lanes_math.h"

namespace iqgs {
namespace IQGS_ISA {

// Columns of the rows first .. first + 15 of rows [count, W]; past the end the last row again.
template <int W>
IQGS_INLINE void load_columns(const float* rows, int64_t first, int64_t count, F16* columns) {
  static_assert(W >= 1 && W <= 4, "a row is a quad at most");
  alignas(64) float m[4][LANES];
  const float* in = rows + first * W;
  // The quads of narrow rows reach into the next row, which must exist.
  if (W > 1 && first + LANES < count) {
    for (int i = 0; i < LANES; i += 4) transpose_four(in + i * W, W, &m[0][i], LANES);
  } else if (W == 1 && first + LANES <= count) {
    columns[0] = F16::load(in);
    return;
  } else {
    for (int i = 0; i < LANES; ++i) {
      const int64_t n = first + i < count ? i : count - 1 - first;
      for (int c = 0; c < W; ++c) m[c][i] = in[n * W + c];
    }
  }
  for (int c = 0; c < W; ++c) columns[c] = F16::load(m[c]);
}

// Writes the columns to the rows first .. last - 1 of rows [count, W]; may be null.
template <int W>
IQGS_INLINE void store_columns(const F16* columns, float* rows, int64_t first, int64_t last) {
  static_assert(W >= 1 && W <= 4, "a row is a quad at most");
  if (!rows) return;
  float* out = rows + first * W;
  const bool whole = last - first == LANES;
  if (W == 1 && whole) return columns[0].store(out);
  alignas(64) float m[4][LANES];
  for (int c = 0; c < W; ++c) columns[c].store(m[c]);
  if (W == 1 || !whole) {
    for (int64_t n = 0; n < last - first; ++n)
      for (int c = 0; c < W; ++c) out[n * W + c] = m[c][n];
    return;
  }
  for (int c = W; c < 4; ++c) F16(0.0f).store(m[c]);
  for (int i = 0; i < LANES; i += 4) {
    Quad in[4], row[4];
    for (int c = 0; c < 4; ++c) in[c] = load_quad(&m[c][i]);
    transpose_four(in, row);
    // What a quad writes past its row the next row mends; there is none after the last.
    const int end = i + 4 < LANES || W == 4 ? 4 : 3;
    for (int j = 0; j < end; ++j) store_quad(out + (i + j) * W, row[j]);
    if (end == 3)
      for (int c = 0; c < W; ++c) out[(i + 3) * W + c] = row[3][c];
  }
}

// The lanes whose bit is set.
IQGS_INLINE Mask lanes_of(uint32_t bits) {
#if defined(__AVX512F__)
  return {static_cast<__mmask16>(bits)};
#else
  alignas(64) static const int32_t BIT[LANES] = {
      1 << 0, 1 << 1, 1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
      1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};
  const I16 bit = I16::from_bits(F16::load(reinterpret_cast<const float*>(BIT)));
  return equal(bit & I16(static_cast<int32_t>(bits)), bit);
#endif
}

}  // namespace IQGS_ISA
}  // namespace iqgs
