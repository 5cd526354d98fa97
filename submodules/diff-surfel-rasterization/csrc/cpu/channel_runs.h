// SPDX-License-Identifier: Apache-2.0
// Any number of channels as runs of sixteen or four, which lie in the lanes of a vector.
#pragma once

#include "lanes_math.h"

namespace iqgs {
namespace IQGS_ISA {

// A run of channels at column `column`, as many as Row holds; the first `done` of them belong to
// the run before. Channel counts that do not divide end with a run that overlaps the last.
template <class Row>
struct Columns {
  using Vector = Row;
  static constexpr int WIDTH = sizeof(Row) / sizeof(float);
  int column, done;
};

IQGS_INLINE void load_row(const float* m, F16& row) {
  row = F16::load(m);
}
IQGS_INLINE void load_row(const float* m, Quad& row) {
  row = load_quad(m);
}
IQGS_INLINE void store_row(float* m, const F16& row) {
  row.store(m);
}
IQGS_INLINE void store_row(float* m, const Quad& row) {
  store_quad(m, row);
}
// a b + c, see `fused`.
IQGS_INLINE Quad fused_quad(const Quad& a, const Quad& b, const Quad& c) {
#if defined(__AVX512F__) || defined(__FMA__)
  return reinterpret_cast<Quad>(_mm_fmadd_ps(
      reinterpret_cast<__m128>(a), reinterpret_cast<__m128>(b), reinterpret_cast<__m128>(c)));
#else
  return a * b + c;
#endif
}
IQGS_INLINE F16 scaled(float weight, const F16& row, const F16& sum) {
  return fused(F16(weight), row, sum);
}
IQGS_INLINE Quad scaled(float weight, const Quad& row, const Quad& sum) {
  return fused_quad(weight - Quad{}, row, sum);
}
IQGS_INLINE void clear(F16& row) {
  row = F16(0.0f);
}
IQGS_INLINE void clear(Quad& row) {
  row = Quad{};
}

// Whether all numbers of a row are finite.
IQGS_INLINE bool is_finite(const F16& row) {
#if defined(__AVX512F__)
  constexpr int WILD = 0x01 | 0x08 | 0x10 | 0x80;  // no number of either kind, infinite
  return _mm512_fpclass_ps_mask(reg(row), WILD) == 0;
#else
  const F16 none = row - row;
  return lane_bits(none >= none) == (1u << LANES) - 1;
#endif
}
IQGS_INLINE bool is_finite(const Quad& row) {
  const Quad zero = {}, none = row * zero;
  const float sum = (none[0] + none[1]) + (none[2] + none[3]);
  return sum == 0.0f;
}

// Calls run(Columns<Row>) for runs that cover the channels; there are at least four.
template <class Run>
IQGS_INLINE void each_run(int channels, const Run& run) {
  for (int c = 0; c < channels;) {
    const int left = channels - c;
    if (left >= LANES || (left > 4 && channels >= LANES)) {
      const int column = left < LANES ? channels - LANES : c;
      run(Columns<F16>{column, c - column});
      c = column + LANES;
    } else {
      const int column = left < 4 ? channels - 4 : c;
      run(Columns<Quad>{column, c - column});
      c = column + 4;
    }
  }
}

// A run of gradients, zero where they belong to the run before.
template <class Row>
IQGS_INLINE Row load_gradients(const float* m, int done) {
  Row row;
  if (done == 0) {
    load_row(m, row);
    return row;
  }
  alignas(64) float kept[Columns<Row>::WIDTH];
  for (int c = 0; c < Columns<Row>::WIDTH; ++c) kept[c] = c < done ? 0.0f : m[c];
  load_row(kept, row);
  return row;
}

}  // namespace IQGS_ISA
}  // namespace iqgs
