// SPDX-License-Identifier: Apache-2.0
#include "quad_weights.h"

#include <algorithm>
#include <cstring>

#include "parallel.h"

namespace iqgs {
namespace {

constexpr int64_t QUADS_PER_CHUNK = 512;
constexpr int64_t ROWS_PER_CHUNK = 4096;
constexpr int64_t PIXELS_PER_CHUNK = 256;

int64_t chunks_of(int64_t items, int64_t per_chunk) {
  return (items + per_chunk - 1) / per_chunk;
}

}  // namespace

std::vector<int32_t> assign_rows(const QuadGrid& grid, const int64_t* start, int32_t* row,
                                 int64_t splat_count) {
  // Per splat and parity of the band: the last band that it reached, and its row there.
  struct Last {
    int32_t band, row;
  };
  std::vector<Last> last(2 * splat_count, {-1, 0});
  std::vector<int32_t> extra;
  for (int band = 0; band < band_count(grid); ++band) {
    const int64_t end = start[band_start(grid, band + 1)];
    for (int64_t e = start[band_start(grid, band)]; e < end; ++e) {
      const int32_t splat = row[e];
      Last& l = last[2 * int64_t(splat) + band % 2];
      if (l.band != band) {
        if (l.band < 0) {
          l.row = splat;
        } else {
          l.row = static_cast<int32_t>(splat_count + static_cast<int64_t>(extra.size()));
          extra.push_back(splat);
        }
        l.band = band;
      }
      row[e] = l.row;
    }
  }
  return extra;
}

void gather_quads(const QuadProductParams& p, int threads) {
  const int64_t quads = quad_count(p.table.grid);
  parallel_for(chunks_of(quads, QUADS_PER_CHUNK), 1, threads, [&](int64_t c, Arena& arena) {
    kernels().gather_quads(p, c * QUADS_PER_CHUNK, std::min(quads, (c + 1) * QUADS_PER_CHUNK),
                           arena);
  });
}

void scatter_quads(const QuadProductParams& p, int threads) {
  const QuadTable& t = p.table;
  const int64_t rows = t.splat_count + t.extra_count;
  parallel_for(chunks_of(rows, ROWS_PER_CHUNK), 1, threads, [&](int64_t c, Arena&) {
    const int64_t first = c * ROWS_PER_CHUNK, last = std::min(rows, first + ROWS_PER_CHUNK);
    std::memset(p.out + first * p.channels, 0, sizeof(float) * (last - first) * p.channels);
  });
  // Every other band at once, then the bands between them.
  const int bands = band_count(t.grid);
  for (int parity = 0; parity < 2; ++parity)
    parallel_for((bands + 1 - parity) / 2, 1, threads, [&](int64_t b, Arena& arena) {
      const int band = 2 * static_cast<int>(b) + parity;
      kernels().scatter_quads(p, band_start(t.grid, band), band_start(t.grid, band + 1), arena);
    });
  // Each thread owns a range of splats and walks all further rows, which run from top to bottom.
  const int64_t ranges = std::max(1, threads);
  parallel_for(ranges, 1, threads, [&](int64_t r, Arena&) {
    const int64_t first = r * t.splat_count / ranges, last = (r + 1) * t.splat_count / ranges;
    for (int64_t k = 0; k < t.extra_count; ++k) {
      if (t.extra[k] < first || t.extra[k] >= last) continue;
      float* const sum = p.out + int64_t(t.extra[k]) * p.channels;
      const float* const part = p.out + (t.splat_count + k) * p.channels;
      for (int c = 0; c < p.channels; ++c) sum[c] += part[c];
    }
  });
}

void look_up_pixels(const QuadLookup& p, int threads) {
  const QuadTable& t = p.table;
  parallel_for(p.pixel_count, PIXELS_PER_CHUNK, threads, [&](int64_t i, Arena&) {
    const int x = static_cast<int>(p.pixels[i] % t.grid.width);
    const int y = static_cast<int>(p.pixels[i] / t.grid.width);
    const int64_t quad = quad_index(t.grid, {x / QUAD, y / QUAD});
    const uint16_t* weight = t.weight + x % QUAD + QUAD * (y % QUAD);
    int64_t at = p.row_start ? p.row_start[i] : 0;
    const int64_t first = at;
    for (int64_t e = t.start[quad]; e < t.start[quad + 1]; ++e) {
      const uint16_t half = weight[QUAD_PIXELS * e];
      if (half && p.row_start) {
        p.splat[at] = splat_of_row(t, t.row[e]);
        p.weight[at] = half_to_float(half);
      }
      at += half != 0;
    }
    if (!p.row_start) p.count[i] = static_cast<int32_t>(at - first);
  });
}

std::vector<int64_t> renumber_splats(int32_t* splat, int64_t count, int64_t splat_count) {
  // A bit per splat, and how many bits are set before each word: no sorting.
  std::vector<uint64_t> seen(splat_count / 64 + 1, 0);
  for (int64_t k = 0; k < count; ++k) seen[splat[k] >> 6] |= uint64_t(1) << (splat[k] & 63);
  std::vector<int32_t> before(seen.size());
  std::vector<int64_t> touched;
  for (size_t w = 0; w < seen.size(); ++w) {
    before[w] = static_cast<int32_t>(touched.size());
    for (uint64_t bits = seen[w]; bits; bits &= bits - 1)
      touched.push_back(int64_t(64 * w) + __builtin_ctzll(bits));
  }
  for (int64_t k = 0; k < count; ++k) {
    const uint64_t lower = (uint64_t(1) << (splat[k] & 63)) - 1;
    const size_t w = static_cast<size_t>(splat[k] >> 6);
    splat[k] = before[w] + __builtin_popcountll(seen[w] & lower);
  }
  return touched;
}

}  // namespace iqgs
