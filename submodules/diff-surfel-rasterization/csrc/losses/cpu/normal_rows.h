// SPDX-License-Identifier: Apache-2.0
// Normal consistency over rows of an image in one pass: the surface's depth is made a row ahead of
// the normals, and the derivatives by it a row behind them. What is kept between rows fits in the
// second-level cache.
#pragma once

#include "image_rows.h"

namespace iqgs {
namespace IQGS_ISA {

constexpr int NORMAL_ROWS = 3;  // kept: a row and its neighbours
// Derivatives of a row by the differences along its columns and along itself.
enum DifferenceMap { BY_DOWN, BY_RIGHT = 3, DIFFERENCE_MAPS = 6 };

// Working memory. Column x is at x + LANES of a row, with room for a vector on either side.
struct NormalSpace {
  float* depth;        // [NORMAL_ROWS, stride] of the surface
  float* differences;  // [NORMAL_ROWS, DIFFERENCE_MAPS, stride] zero where there is no normal
  float* rays;         // [stride] slopes of the columns' rays
  int stride;
  IQGS_INLINE float* depth_row(int y) const {
    return depth + (y + 2 * NORMAL_ROWS) % NORMAL_ROWS * stride + LANES;
  }
  IQGS_INLINE float* difference_row(int y, int map) const {
    const int row = (y + 2 * NORMAL_ROWS) % NORMAL_ROWS;
    return differences + (row * DIFFERENCE_MAPS + map) * stride + LANES;
  }
};

IQGS_INLINE NormalSpace carve_normal_space(const NormalLossParams& p, Arena& arena) {
  NormalSpace s;
  s.stride = padded(p.width) + 2 * LANES;
  const size_t stride = s.stride;
  const size_t floats = (NORMAL_ROWS * (1 + DIFFERENCE_MAPS) + 1) * stride;
  void* const memory = arena.reserve(sizeof(float) * floats + 256);
  __builtin_memset(memory, 0, sizeof(float) * floats + 256);
  Carver carver = {static_cast<char*>(memory)};
  s.depth = carver.take<float>(NORMAL_ROWS * stride);
  s.differences = carver.take<float>(NORMAL_ROWS * DIFFERENCE_MAPS * stride);
  s.rays = carver.take<float>(stride);
  for (int i = 0; i < s.stride; ++i)
    s.rays[i] = p.rays.x + p.rays.inverse_fx * static_cast<float>(i - LANES);
  return s;
}

IQGS_PHASE void read_depths(const NormalLossParams& p, int y, const NormalSpace& s) {
  const int64_t at = int64_t(y) * p.width;
  const FN share(p.median_share), rest(1.0f - p.median_share);
  float* const row = s.depth_row(y);
  for (int i = 0; i < p.width; i += NATIVE) {
    const int left = p.width - i;
    FN depth = surface_depth(load_some(p.depth + at + i, left), load_some(p.alpha + at + i, left));
    if (p.median) depth = fused(rest, depth, share * load_some(p.median + at + i, left));
    depth.store(row + i);
  }
}

IQGS_INLINE void store_vector(const Vec3<FN>& v, float* to, int64_t stride, int count) {
  store_some(v.x, to, count);
  store_some(v.y, to + stride, count);
  store_some(v.z, to + 2 * stride, count);
}

IQGS_INLINE Vec3<FN> load_vector(const float* from, int64_t stride, int count) {
  return {load_some(from, count), load_some(from + stride, count),
          load_some(from + 2 * stride, count)};
}

IQGS_INLINE Vec3<FN> zero_unless(const MaskOf<1>& m, const Vec3<FN>& v) {
  return {zero_unless(m, v.x), zero_unless(m, v.y), zero_unless(m, v.z)};
}

// A row without normals.
IQGS_PHASE void skip_row(const NormalLossParams& p, int y, bool own, const NormalSpace& s) {
  __builtin_memset(s.difference_row(y, 0) - LANES, 0, sizeof(float) * DIFFERENCE_MAPS * s.stride);
  if (!own || !p.slopes) return;
  const int64_t plane = int64_t(p.height) * p.width;
  for (int k = 0; k < 3; ++k)
    __builtin_memset(p.slopes + k * plane + int64_t(y) * p.width, 0, sizeof(float) * p.width);
}

// Normals of row y; returns their sum. `own`: the derivatives by the rendered normal are wanted.
template <bool LEARNS>
IQGS_PHASE double compare_row(const NormalLossParams& p, int y, bool own, const NormalSpace& s) {
  const float *above = s.depth_row(y - 1), *here = s.depth_row(y), *below = s.depth_row(y + 1);
  const float* const rays = s.rays + LANES;
  const FN ray_y(p.rays.y + p.rays.inverse_fy * y);
  const FN ray_above(p.rays.y + p.rays.inverse_fy * (y - 1));
  const FN ray_below(p.rays.y + p.rays.inverse_fy * (y + 1));
  const int64_t at = int64_t(y) * p.width, plane = int64_t(p.height) * p.width;
  FN sum(0.0f);
  for (int i = 0; i < p.width; i += NATIVE) {
    const int left = p.width - i;
    const Vec3<FN> right = along_row(FN::load(here + i - 1), FN::load(here + i + 1),
                                     FN::load(rays + i - 1), FN::load(rays + i + 1), ray_y);
    const Vec3<FN> down = along_column(FN::load(above + i), FN::load(below + i),
                                       FN::load(rays + i), ray_above, ray_below);
    NormalAgreement<FN> a =
        normal_agreement(down, right, load_vector(p.normal + at + i, plane, left),
                         load_some(p.alpha + at + i, left));
    if (i == 0 || left <= NATIVE) {  // the border has no normal
      alignas(64) float inner[NATIVE];
      for (int k = 0; k < NATIVE; ++k) inner[k] = i + k > 0 && i + k < p.width - 1 ? 1.0f : 0.0f;
      const MaskOf<1> m = FN::load(inner) > FN(0.0f);
      a.value = zero_unless(m, a.value);
      a.by_normal = zero_unless(m, a.by_normal);
      a.by_down = zero_unless(m, a.by_down);
      a.by_right = zero_unless(m, a.by_right);
    }
    sum = sum + a.value;
    if (!LEARNS) continue;
    store_vector(a.by_down, s.difference_row(y, BY_DOWN) + i, s.stride, NATIVE);
    store_vector(a.by_right, s.difference_row(y, BY_RIGHT) + i, s.stride, NATIVE);
    if (own) store_vector(a.by_normal, p.slopes + at + i, plane, left);
  }
  return sum_lanes(sum);
}

// Derivatives of row y by the images that make the depth, once the rows round it are known.
IQGS_PHASE void write_depth_slopes(const NormalLossParams& p, int y, const NormalSpace& s) {
  const float* const rays = s.rays + LANES;
  const FN ray_y(p.rays.y + p.rays.inverse_fy * y), share(1.0f - p.median_share);
  const float *above = s.difference_row(y - 1, BY_DOWN), *below = s.difference_row(y + 1, BY_DOWN);
  const float* const own = s.difference_row(y, BY_RIGHT);
  const int64_t at = int64_t(y) * p.width, plane = int64_t(p.height) * p.width;
  float* const slopes = p.slopes + 3 * plane + at;
  for (int i = 0; i < p.width; i += NATIVE) {
    const int left = p.width - i;
    FN by[3];
    for (int k = 0; k < 3; ++k) {
      const float *column = above + k * s.stride + i, *row = own + k * s.stride + i;
      by[k] = (FN::load(column) - FN::load(below + k * s.stride + i)) +
              (FN::load(row - 1) - FN::load(row + 1));
    }
    const FN by_depth = fused(by[0], FN::load(rays + i), fused(by[1], ray_y, by[2]));
    const FN alpha = load_some(p.alpha + at + i, left);
    const FN inverse = reciprocal(larger(alpha, FN(LEAST_ALPHA)));
    const FN by_sum = share * by_depth * inverse;
    const FN by_alpha = -(by_sum * load_some(p.depth + at + i, left) * inverse);
    store_some(by_sum, slopes + i, left);
    store_some(zero_unless(alpha >= FN(LEAST_ALPHA), by_alpha), slopes + plane + i, left);
    if (p.median) store_some(FN(p.median_share) * by_depth, slopes + 2 * plane + i, left);
  }
}

template <bool LEARNS>
IQGS_INLINE void compare_normal_rows(const NormalLossParams& p, int first, int last, double* sums,
                                     Arena& arena) {
  const NormalSpace s = carve_normal_space(p, arena);
  const int reach = LEARNS ? 1 : 0;  // rows beyond the part whose derivatives count
  auto exists = [&](int y) { return y >= 0 && y < p.height; };
  for (int y = first - reach - 1; y <= first - reach; ++y)
    if (exists(y)) read_depths(p, y, s);
  for (int y = first - reach; y < last + reach; ++y) {
    if (exists(y + 1)) read_depths(p, y + 1, s);
    const bool own = y >= first && y < last;
    const bool inner = y > 0 && y < p.height - 1;
    const double sum = inner ? compare_row<LEARNS>(p, y, own, s) : 0.0;
    if (!inner) skip_row(p, y, own, s);
    if (own) sums[y - first] = sum;
    if (LEARNS && y > first) write_depth_slopes(p, y - 1, s);
  }
}

// Rows first .. last: sums of each, and their slopes where they are wanted.
void compare_normals(const NormalLossParams& p, int first, int last, double* sums, Arena& arena) {
  if (p.slopes)
    compare_normal_rows<true>(p, first, last, sums, arena);
  else
    compare_normal_rows<false>(p, first, last, sums, arena);
}

}  // namespace IQGS_ISA
}  // namespace iqgs
