// SPDX-License-Identifier: Apache-2.0
// Products with the weights of quads: rows of splats to rows of pixels, and back. Channels lie in
// lanes; the four pixels of a quad are the accumulators (forward) or the operands (backward).
#pragma once

#include "channel_runs.h"
#include "halves.h"

namespace iqgs {
namespace IQGS_ISA {

constexpr int QUADS_AHEAD = 4;  // whose rows are on their way to the cache

// A quad and where it lies.
struct QuadWalk {
  int64_t quad;
  QuadPlace place;
};

// Calls visit(walk) for quads first .. last; divides once, not once a quad.
template <class Visit>
IQGS_INLINE void each_quad(const QuadGrid& grid, int64_t first, int64_t last, const Visit& visit) {
  QuadPlace place = quad_place(grid, first);
  for (int64_t quad = first; quad < last;) {
    const int band = place.y / BAND_QUADS, end = band * BAND_QUADS + band_height(grid, band);
    for (; place.y < end && quad < last; ++place.y, ++quad) visit(QuadWalk{quad, place});
    place.y = band * BAND_QUADS;
    if (++place.x == quads_x(grid)) place = {0, end};
  }
}

// Calls visit(pixel of the quad, pixel of the image) for those inside the image.
template <class Visit>
IQGS_INLINE void each_pixel(const QuadGrid& grid, QuadPlace place, const Visit& visit) {
#pragma GCC unroll 4
  for (int j = 0; j < QUAD_PIXELS; ++j) {
    const int x = QUAD * place.x + j % QUAD, y = QUAD * place.y + j / QUAD;
    if (x < grid.width && y < grid.height) visit(j, static_cast<int64_t>(y) * grid.width + x);
  }
}

// Asks for the rows of a quad that comes soon. A row behind the last splat asks for nothing useful,
// and costs nothing.
IQGS_INLINE void prefetch_rows(const QuadTable& t, int64_t quad, const float* rows,
                               int64_t stride) {
  const int64_t ahead = quad + QUADS_AHEAD;
  if (ahead >= quad_count(t.grid)) return;
  for (int64_t e = t.start[ahead], last = t.start[ahead + 1]; e < last; ++e)
    __builtin_prefetch(rows + t.row[e] * stride);
}

// Room for the floats of the longest of quads first .. last, and what a vector writes past them.
IQGS_INLINE float* weight_space(const QuadTable& t, int64_t first, int64_t last, Arena& arena) {
  int64_t longest = 0;
  for (int64_t q = first; q < last; ++q)
    longest = t.start[q + 1] - t.start[q] > longest ? t.start[q + 1] - t.start[q] : longest;
  return static_cast<float*>(arena.reserve(sizeof(float) * (QUAD_PIXELS * longest + LANES)));
}

// The weights of entries first .. last as floats. The table's last entries are read one by one: a
// vector would reach behind it.
IQGS_INLINE void load_weights(const QuadTable& t, int64_t first, int64_t last, float* out) {
  const uint16_t* in = t.weight + QUAD_PIXELS * first;
  const int64_t count = QUAD_PIXELS * (last - first);
  const int64_t readable = QUAD_PIXELS * (t.start[quad_count(t.grid)] - first);
  int64_t k = 0;
  for (; k < count && k + LANES <= readable; k += LANES) load_halves(in + k).store(out + k);
  for (; k < count; ++k) out[k] = half_to_float(in[k]);
}

template <class Row>
IQGS_INLINE void gather_quad(const QuadProductParams& p, const QuadWalk& w, const float* weight,
                             Columns<Row> run) {
  const QuadTable& t = p.table;
  const int32_t* const rows = t.row;
  const int64_t count = t.splat_count, stride = p.channels;
  const float* const values = p.values + run.column;
  prefetch_rows(t, w.quad, values, stride);
  Row sums[QUAD_PIXELS];
#pragma GCC unroll 4
  for (int j = 0; j < QUAD_PIXELS; ++j) clear(sums[j]);
  for (int64_t e = t.start[w.quad], last = t.start[w.quad + 1]; e < last; ++e) {
    int64_t splat = rows[e];
    if (__builtin_expect(splat >= count, 0)) splat = t.extra[splat - count];
    Row row;
    load_row(values + splat * stride, row);
#pragma GCC unroll 4
    for (int j = 0; j < QUAD_PIXELS; ++j) sums[j] = scaled(weight[j], row, sums[j]);
    weight += QUAD_PIXELS;
  }
  each_pixel(t.grid, w.place, [&](int j, int64_t pixel) {
    store_row(p.out + pixel * stride + run.column, sums[j]);
  });
}

// Gradients of the quad's pixels, zero outside the image.
template <class Row>
IQGS_INLINE void load_pixels(const QuadProductParams& p, const QuadWalk& w, Columns<Row> run,
                             Row* grads) {
#pragma GCC unroll 4
  for (int j = 0; j < QUAD_PIXELS; ++j) clear(grads[j]);
  each_pixel(p.table.grid, w.place, [&](int j, int64_t pixel) {
    grads[j] = load_gradients<Row>(p.values + pixel * p.channels + run.column, run.done);
  });
}

// `scatter_quad` where a gradient is infinite or no number, which a weight of zero does not make
// vanish: pixels that a splat does not reach are left out.
template <class Row>
IQGS_PHASE void scatter_wild(const QuadProductParams& p, const QuadWalk& w, const float* weight,
                             Columns<Row> run) {
  const QuadTable& t = p.table;
  Row grads[QUAD_PIXELS];
  load_pixels(p, w, run, grads);
  for (int64_t e = t.start[w.quad], last = t.start[w.quad + 1]; e < last; ++e) {
    float* const at = p.out + run.column + t.row[e] * int64_t(p.channels);
    Row row;
    load_row(at, row);
    for (int j = 0; j < QUAD_PIXELS; ++j)
      if (weight[j] > 0.0f) row = scaled(weight[j], grads[j], row);
    store_row(at, row);
    weight += QUAD_PIXELS;
  }
}

template <class Row>
IQGS_INLINE void scatter_quad(const QuadProductParams& p, const QuadWalk& w, const float* weight,
                              Columns<Row> run) {
  const QuadTable& t = p.table;
  const int32_t* const rows = t.row;
  const int64_t stride = p.channels;
  float* const out = p.out + run.column;
  prefetch_rows(t, w.quad, out, stride);
  Row grads[QUAD_PIXELS];
  load_pixels(p, w, run, grads);
  if (__builtin_expect(!is_finite((grads[0] + grads[1]) + (grads[2] + grads[3])), 0))
    return scatter_wild(p, w, weight, run);
  for (int64_t e = t.start[w.quad], last = t.start[w.quad + 1]; e < last; ++e) {
    float* const at = out + rows[e] * stride;
    Row row;
    load_row(at, row);
#pragma GCC unroll 4
    for (int j = 0; j < QUAD_PIXELS; ++j) row = scaled(weight[j], grads[j], row);
    store_row(at, row);
    weight += QUAD_PIXELS;
  }
}

// Pixels of quads first .. last: out [H W, C] = sum over entries of weight * values [N, C].
void gather_quads(const QuadProductParams& p, int64_t first, int64_t last, Arena& arena) {
  float* const weight = weight_space(p.table, first, last, arena);
  each_quad(p.table.grid, first, last, [&](const QuadWalk& w) {
    load_weights(p.table, p.table.start[w.quad], p.table.start[w.quad + 1], weight);
    each_run(p.channels, [&](auto run) { gather_quad(p, w, weight, run); });
  });
}

// Adds quads first .. last to the rows out [N + S, C], from values [H W, C].
void scatter_quads(const QuadProductParams& p, int64_t first, int64_t last, Arena& arena) {
  float* const weight = weight_space(p.table, first, last, arena);
  each_quad(p.table.grid, first, last, [&](const QuadWalk& w) {
    load_weights(p.table, p.table.start[w.quad], p.table.start[w.quad + 1], weight);
    each_run(p.channels, [&](auto run) { scatter_quad(p, w, weight, run); });
  });
}

}  // namespace IQGS_ISA
}  // namespace iqgs
