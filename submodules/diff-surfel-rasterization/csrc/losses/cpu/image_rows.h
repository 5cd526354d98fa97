// SPDX-License-Identifier: Apache-2.0
// L1, SSIM and the slope of SSIM over a part of one channel, two rows at a time in one pass: the
// window goes down the columns of both images, then along the rows of the four moments; the
// derivatives follow five rows behind, along the rows first. What is kept between rows fits in the
// second-level cache, what is kept between the steps of a row in the first.
#pragma once

#include "../../cpu/carver.h"
#include "../../cpu/lanes_math.h"
#include "kernels.h"

namespace iqgs {
namespace IQGS_ISA {

// One native vector: the two windows at once need all registers that there are.
using FN = Floats<1>;

// Columns on either side of a part: what the window needs twice, in whole vectors.
constexpr int IMAGE_MARGIN = 2 * LANES;
static_assert(LANES >= 2 * SSIM_RADIUS, "one vector beside a part must be enough for both windows");
// Floats from row to row. Known to the compiler, so that maps are constants apart.
constexpr int IMAGE_STRIDE = IMAGE_PART_WIDTH + 2 * IMAGE_MARGIN;
// Rows of a step: two windows down the columns share all rows but two.
constexpr int ROWS_AT_ONCE = 2;
constexpr int WINDOW_ROWS = SSIM_WINDOW + ROWS_AT_ONCE - 1;

enum ImageMap { OF_IMAGE, OF_TARGET, OF_SQUARES, OF_PRODUCT, MOMENT_MAPS, IMAGE_MAPS = 2 };
enum SlopeMap { BY_IMAGE, BY_SQUARES, BY_PRODUCT, SLOPE_MAPS };

// The last rows of MAPS maps, as many as the windows of a step see.
template <int MAPS>
struct RowRing {
  float* memory;  // [WINDOW_ROWS, MAPS, IMAGE_STRIDE]
  static constexpr size_t FLOATS = size_t(WINDOW_ROWS) * MAPS * IMAGE_STRIDE;
  IQGS_INLINE float* row(int y) const {
    return memory + (y + 2 * WINDOW_ROWS) % WINDOW_ROWS * MAPS * IMAGE_STRIDE;
  }
  IQGS_INLINE void clear(int y) const {
    __builtin_memset(row(y), 0, sizeof(float) * MAPS * IMAGE_STRIDE);
  }
};

// Working memory. Column x of the image is at x - first_column + IMAGE_MARGIN of a row.
struct ImageSpace {
  float* moments;              // [ROWS_AT_ONCE, MOMENT_MAPS, IMAGE_STRIDE] blurred down
  float* derivatives;          // [SLOPE_MAPS, IMAGE_STRIDE] of one row
  float* weights;              // [IMAGE_STRIDE] of one row; zero beyond the image
  RowRing<IMAGE_MAPS> images;  // zero outside the image
  RowRing<SLOPE_MAPS> slopes;  // blurred along; zero outside
};

IQGS_INLINE ImageSpace carve_image_space(Arena& arena) {
  constexpr size_t FLOATS = RowRing<IMAGE_MAPS>::FLOATS + RowRing<SLOPE_MAPS>::FLOATS +
                            (ROWS_AT_ONCE * MOMENT_MAPS + SLOPE_MAPS + 1) * IMAGE_STRIDE;
  void* const memory = arena.reserve(sizeof(float) * FLOATS + 512);
  __builtin_memset(memory, 0, sizeof(float) * FLOATS);
  Carver carver = {static_cast<char*>(memory)};
  ImageSpace s;
  s.moments = carver.take<float>(ROWS_AT_ONCE * MOMENT_MAPS * IMAGE_STRIDE);
  s.derivatives = carver.take<float>(SLOPE_MAPS * IMAGE_STRIDE);
  s.weights = carver.take<float>(IMAGE_STRIDE);
  s.images.memory = carver.take<float>(RowRing<IMAGE_MAPS>::FLOATS);
  s.slopes.memory = carver.take<float>(RowRing<SLOPE_MAPS>::FLOATS);
  return s;
}

// The columns that are worked on, as positions in a row of the working memory, whole vectors.
struct ImageColumns {
  int first, last;    // of the part
  int before, after;  // with those of the image that its windows see
  int image_last;     // where the image ends, if it does before `after`
};

IQGS_INLINE ImageColumns image_columns(const ImageLossParams& p, const ImagePart& part) {
  const int width = part.last_column - part.first_column;
  ImageColumns c;
  c.first = IMAGE_MARGIN;
  c.last = IMAGE_MARGIN + (width + NATIVE - 1) / NATIVE * NATIVE;
  c.before = c.first - (part.first_column > 0 ? LANES : 0);
  c.after = c.last + (part.last_column < p.width ? LANES : 0);
  const int end = p.width - part.first_column + IMAGE_MARGIN;
  c.image_last = end < c.after ? end : c.after;
  return c;
}

// Up to NATIVE numbers, zeros behind them.
IQGS_INLINE FN load_some(const float* from, int count) {
  if (count >= NATIVE) return FN::load(from);
  alignas(64) float some[NATIVE] = {};
  for (int i = 0; i < count; ++i) some[i] = from[i];
  return FN::load(some);
}

IQGS_INLINE void store_some(const FN& value, float* to, int count) {
  if (count >= NATIVE) return value.store(to);
  alignas(64) float some[NATIVE];
  value.store(some);
  for (int i = 0; i < count; ++i) to[i] = some[i];
}

IQGS_INLINE double sum_lanes(const FN& a) {
  alignas(64) float m[NATIVE];
  a.store(m);
  double sum = 0.0;
  for (int i = 0; i < NATIVE; ++i) sum += m[i];
  return sum;
}

IQGS_INLINE void load_weights(const ImageLossParams& p, const ImagePart& part,
                              const ImageColumns& c, int y, float* weights) {
  const float* row = p.weight + int64_t(y) * p.width + part.first_column - IMAGE_MARGIN;
  for (int i = c.before; i < c.image_last; i += NATIVE)
    larger(load_some(row + i, c.image_last - i), FN(0.0f)).store(weights + i);
}

// Row y of both images, zero where it lies outside; its differences are added where `sums` is
// given.
template <bool WEIGHTED>
IQGS_PHASE void read_row(const ImageLossParams& p, const ImagePart& part, const ImageColumns& c,
                         int y, ImageSpace& s, ImageSums* sums) {
  if (WEIGHTED) load_weights(p, part, c, y, s.weights);
  const int64_t at = (int64_t(part.channel) * p.height + y) * p.width + part.first_column;
  const float *image = p.image + at - IMAGE_MARGIN, *target = p.target + at - IMAGE_MARGIN;
  float* const row = s.images.row(y);
  FN difference(0.0f), weight(0.0f);
  for (int i = c.before; i < c.image_last; i += NATIVE) {
    FN x = load_some(image + i, c.image_last - i), t = load_some(target + i, c.image_last - i);
    const FN w = FN::load(s.weights + i);
    if (WEIGHTED) {
      const MaskOf<1> inside = w > FN(0.0f);
      x = zero_unless(inside, x);
      t = zero_unless(inside, t);
    }
    x.store(row + OF_IMAGE * IMAGE_STRIDE + i);
    t.store(row + OF_TARGET * IMAGE_STRIDE + i);
    if (i < c.first || i >= c.last) continue;
    difference = fused(w, magnitude(x - t), difference);
    weight = weight + w;
  }
  if (!sums) return;
  sums->difference = sum_lanes(difference);
  sums->weight = part.channel == 0 ? sum_lanes(weight) : 0.0;
}

// Weight of row k of the windows' rows in window r, zero where that ends.
IQGS_INLINE FN window_weight(int k, int r) {
  const int distance = k - r - SSIM_RADIUS;
  return FN(ssim_weight(distance < 0 ? -distance : distance));
}

IQGS_INLINE bool in_window(int k, int r) {
  return k >= r && k < r + SSIM_WINDOW;
}

template <int MAPS>
struct WindowRows {
  const float* at[WINDOW_ROWS];
  // Those of the windows round rows y and y + 1.
  IQGS_INLINE WindowRows(const RowRing<MAPS>& ring, int y) {
    for (int k = 0; k < WINDOW_ROWS; ++k) at[k] = ring.row(y - SSIM_RADIUS + k);
  }
};

// Moments of rows y and y + 1, blurred down the columns.
IQGS_PHASE void blur_images_down(const ImageColumns& c, int y, ImageSpace& s) {
  const WindowRows<IMAGE_MAPS> rows(s.images, y);
  for (int i = c.before; i < c.after; i += NATIVE) {
    FN sum[ROWS_AT_ONCE][MOMENT_MAPS];
#pragma GCC unroll 12
    for (int k = 0; k < WINDOW_ROWS; ++k) {
      const FN x = FN::load(rows.at[k] + i + OF_IMAGE * IMAGE_STRIDE);
      const FN t = FN::load(rows.at[k] + i + OF_TARGET * IMAGE_STRIDE);
      const FN of[MOMENT_MAPS] = {x, t, fused(x, x, t * t), x * t};
#pragma GCC unroll 2
      for (int r = 0; r < ROWS_AT_ONCE; ++r) {
        if (!in_window(k, r)) continue;
        const FN w = window_weight(k, r);
#pragma GCC unroll 4
        for (int m = 0; m < MOMENT_MAPS; ++m)
          sum[r][m] = k == r ? w * of[m] : fused(w, of[m], sum[r][m]);
      }
    }
#pragma GCC unroll 2
    for (int r = 0; r < ROWS_AT_ONCE; ++r)
#pragma GCC unroll 4
      for (int m = 0; m < MOMENT_MAPS; ++m)
        sum[r][m].store(s.moments + (r * MOMENT_MAPS + m) * IMAGE_STRIDE + i);
  }
}

// Sum of the vectors that begin K numbers before and behind `row`, which is aligned. A load across
// two cache lines costs two, and waits for both where they were written just now; a vector as long
// as a line always crosses one, so there the neighbours are shifted in from three aligned loads.
template <int K>
IQGS_INLINE FN neighbours(const float* row) {
#if defined(__AVX512F__)
  const __m512i before = _mm512_load_si512(row - NATIVE), here = _mm512_load_si512(row),
                behind = _mm512_load_si512(row + NATIVE);
  const __m512i left = _mm512_alignr_epi32(here, before, NATIVE - K);
  const __m512i right = _mm512_alignr_epi32(behind, here, K);
  FN r;
  r.v[0] = reinterpret_cast<NativeF>(left) + reinterpret_cast<NativeF>(right);
  return r;
#else
  return FN::load(row - K) + FN::load(row + K);
#endif
}

template <int K>
IQGS_INLINE FN add_neighbours(const float* row, const FN& sum) {
  const FN more = fused(neighbours<K>(row), FN(ssim_weight(K)), sum);
  if constexpr (K < SSIM_RADIUS) return add_neighbours<K + 1>(row, more);
  return more;
}

IQGS_INLINE FN blur_along(const float* row) {
  return add_neighbours<1>(row, FN::load(row) * FN(ssim_weight(0)));
}

// SSIM of columns first .. last of a row, weighted; and its derivatives by the moments, weighted as
// well, so that they vanish outside the image.
template <bool LEARNS>
IQGS_INLINE FN compare_columns(const float* moments, int first, int last, ImageSpace& s) {
  FN sum(0.0f);
  for (int i = first; i < last; i += NATIVE) {
    const float* const m = moments + i;
    const Similarity<FN> here = similarity(LocalMoments<FN>{
        blur_along(m + OF_IMAGE * IMAGE_STRIDE), blur_along(m + OF_TARGET * IMAGE_STRIDE),
        blur_along(m + OF_SQUARES * IMAGE_STRIDE), blur_along(m + OF_PRODUCT * IMAGE_STRIDE)});
    const FN weight = FN::load(s.weights + i);
    sum = fused(weight, here.value, sum);
    if (!LEARNS) continue;
    float* const d = s.derivatives + i;
    (weight * here.by_image).store(d + BY_IMAGE * IMAGE_STRIDE);
    (weight * here.by_squares).store(d + BY_SQUARES * IMAGE_STRIDE);
    (weight * here.by_product).store(d + BY_PRODUCT * IMAGE_STRIDE);
  }
  return sum;
}

template <bool WEIGHTED, bool LEARNS>
IQGS_PHASE void compare_row(const ImageLossParams& p, const ImagePart& part, const ImageColumns& c,
                            int y, const float* moments, ImageSpace& s, ImageSums* sums) {
  if (WEIGHTED) load_weights(p, part, c, y, s.weights);
  if (LEARNS) compare_columns<LEARNS>(moments, c.before, c.first, s);
  const FN sum = compare_columns<LEARNS>(moments, c.first, c.last, s);
  if (LEARNS) compare_columns<LEARNS>(moments, c.last, c.after, s);
  if (sums) sums->similarity = sum_lanes(sum);
}

IQGS_PHASE void blur_slopes_along(const ImageColumns& c, int y, ImageSpace& s) {
  float* const row = s.slopes.row(y);
  for (int i = c.first; i < c.last; i += NATIVE)
#pragma GCC unroll 3
    for (int m = 0; m < SLOPE_MAPS; ++m)
      blur_along(s.derivatives + m * IMAGE_STRIDE + i).store(row + m * IMAGE_STRIDE + i);
}

// From the derivatives blurred both ways: the slope of NATIVE pixels of a row.
template <bool WEIGHTED>
IQGS_INLINE void write_slope(const ImageLossParams& p, const FN* by, int64_t pixel, int64_t plane,
                             int count) {
  const int64_t at = plane + pixel;
  FN slope = image_slope(by[BY_IMAGE], by[BY_SQUARES], by[BY_PRODUCT],
                         load_some(p.image + at, count), load_some(p.target + at, count));
  if (WEIGHTED) slope = zero_unless(load_some(p.weight + pixel, count) > FN(0.0f), slope);
  store_some(slope, p.slope + at, count);
}

// Slopes of rows y and y + 1, as far as they belong to the part.
template <bool WEIGHTED>
IQGS_PHASE void write_slopes(const ImageLossParams& p, const ImagePart& part, int y,
                             const ImageSpace& s) {
  const WindowRows<SLOPE_MAPS> rows(s.slopes, y);
  const int64_t plane = int64_t(part.channel) * p.height * p.width;
  const int width = part.last_column - part.first_column;
  for (int i = 0; i < width; i += NATIVE) {
    FN sum[ROWS_AT_ONCE][SLOPE_MAPS];
#pragma GCC unroll 12
    for (int k = 0; k < WINDOW_ROWS; ++k)
#pragma GCC unroll 3
      for (int m = 0; m < SLOPE_MAPS; ++m) {
        const FN value = FN::load(rows.at[k] + m * IMAGE_STRIDE + IMAGE_MARGIN + i);
#pragma GCC unroll 2
        for (int r = 0; r < ROWS_AT_ONCE; ++r) {
          if (!in_window(k, r)) continue;
          const FN w = window_weight(k, r);
          sum[r][m] = k == r ? w * value : fused(w, value, sum[r][m]);
        }
      }
#pragma GCC unroll 2
    for (int r = 0; r < ROWS_AT_ONCE; ++r) {
      const int64_t pixel = int64_t(y + r) * p.width + part.first_column + i;
      if (y + r < part.last_row) write_slope<WEIGHTED>(p, sum[r], pixel, plane, width - i);
    }
  }
}

template <bool WEIGHTED, bool LEARNS>
IQGS_PHASE void compare_part(const ImageLossParams& p, const ImagePart& part, ImageSums* sums,
                             Arena& arena) {
  ImageSpace s = carve_image_space(arena);
  const ImageColumns c = image_columns(p, part);
  if (!WEIGHTED)
    for (int i = c.before; i < c.image_last; ++i) s.weights[i] = 1.0f;
  auto exists = [&](int y) { return y >= 0 && y < p.height; };
  auto sums_of = [&](int y) {
    return y >= part.first_row && y < part.last_row ? sums + (y - part.first_row) : nullptr;
  };
  const int reach = LEARNS ? SSIM_RADIUS : 0;  // rows beyond the part whose similarity counts
  int read = part.first_row - reach - SSIM_RADIUS;
  for (int y = part.first_row - reach; y < part.last_row + reach; y += ROWS_AT_ONCE) {
    for (; read < y + ROWS_AT_ONCE + SSIM_RADIUS; ++read)
      if (exists(read))
        read_row<WEIGHTED>(p, part, c, read, s, sums_of(read));
      else
        s.images.clear(read);
    blur_images_down(c, y, s);
    for (int r = 0; r < ROWS_AT_ONCE; ++r) {
      const float* const moments = s.moments + r * MOMENT_MAPS * IMAGE_STRIDE;
      if (exists(y + r))
        compare_row<WEIGHTED, LEARNS>(p, part, c, y + r, moments, s, sums_of(y + r));
      if (!LEARNS) continue;
      if (exists(y + r))
        blur_slopes_along(c, y + r, s);
      else
        s.slopes.clear(y + r);
    }
    const int done = y - SSIM_RADIUS;  // its window and the next are complete
    if (LEARNS && done >= part.first_row) write_slopes<WEIGHTED>(p, part, done, s);
  }
}

// One part; sums of each of its rows.
void compare_images(const ImageLossParams& p, const ImagePart& part, ImageSums* sums,
                    Arena& arena) {
  auto run = [&](auto kernel) { kernel(p, part, sums, arena); };
  if (p.weight) return p.slope ? run(compare_part<true, true>) : run(compare_part<true, false>);
  return p.slope ? run(compare_part<false, true>) : run(compare_part<false, false>);
}

// Gradient at pixels first .. last of one channel.
void image_grad(const ImageGradParams& g, const ImageScales& scales, int channel, int64_t first,
                int64_t last) {
  const ImageLossParams& p = g.forward;
  const int64_t plane = int64_t(channel) * p.height * p.width;
  const FN l1(scales.l1), slope(scales.slope), zero(0.0f), one(1.0f), minus_one(-1.0f);
  for (int64_t i = first; i < last; i += NATIVE) {
    const int left = last - i < NATIVE ? static_cast<int>(last - i) : NATIVE;
    const FN x = load_some(p.image + plane + i, left), t = load_some(p.target + plane + i, left);
    FN sign = select(x > t, one, select(t > x, minus_one, zero));
    if (p.weight) {
      const FN w = larger(load_some(p.weight + i, left), zero);
      sign = zero_unless(w > zero, w * sign);
    }
    const FN grad = fused(slope, load_some(p.slope + plane + i, left), l1 * sign);
    store_some(grad, g.grad + plane + i, left);
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
