// SPDX-License-Identifier: Apache-2.0
#include "quad_weights.h"

#include <algorithm>
#include <cstring>

#include "parallel.h"

namespace iqgs {
namespace {

constexpr int64_t QUADS_PER_CHUNK = 512;
constexpr int64_t ROWS_PER_CHUNK = 4096;
constexpr int64_t PIXELS_PER_CHUNK = 1024;
constexpr int64_t PIXELS_AHEAD = 8;  // whose weights are on their way to the cache

int64_t chunks_of(int64_t items, int64_t per_chunk) {
  return (items + per_chunk - 1) / per_chunk;
}

void prefetch_quad(const QuadTable& t, int64_t quad) {
  constexpr int64_t LINE = 64;
  const int64_t first = t.start[quad], last = t.start[quad + 1];
  const auto ask = [](const void* from, const void* to) {
    for (const char* p = static_cast<const char*>(from); p < to; p += LINE) __builtin_prefetch(p);
  };
  ask(t.row + first, t.row + last);
  ask(t.weight + QUAD_PIXELS * first, t.weight + QUAD_PIXELS * last);
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

PixelRows::PixelRows(const QuadTable& t, const int64_t* pixels, int64_t count, int64_t* row_start,
                     int threads)
    : place_(count + 1, 0), row_start_(row_start), seen_(t.splat_count / 64 + 1, 0) {
  // The quads lie anywhere: first all starts are asked for, then the entries some pixels ahead.
  std::vector<int64_t> quad(count);
  for (int64_t i = 0; i < count; ++i) {
    const int x = static_cast<int>(pixels[i] % t.grid.width);
    const int y = static_cast<int>(pixels[i] / t.grid.width);
    quad[i] = quad_index(t.grid, {x / QUAD, y / QUAD});
    __builtin_prefetch(t.start + quad[i]);
  }
  for (int64_t i = 0; i < count; ++i)
    place_[i + 1] = place_[i] + t.start[quad[i] + 1] - t.start[quad[i]];
  found_.resize(place_[count]);
  parallel_for((count + PIXELS_PER_CHUNK - 1) / PIXELS_PER_CHUNK, 1, threads,
               [&](int64_t c, Arena&) {
                 const int64_t last = std::min(count, (c + 1) * PIXELS_PER_CHUNK);
                 for (int64_t i = c * PIXELS_PER_CHUNK; i < last; ++i) {
                   if (i + PIXELS_AHEAD < last) prefetch_quad(t, quad[i + PIXELS_AHEAD]);
                   const int x = static_cast<int>(pixels[i] % t.grid.width);
                   const int y = static_cast<int>(pixels[i] / t.grid.width);
                   const uint16_t* const weight = t.weight + x % QUAD + QUAD * (y % QUAD);
                   // Written whether kept or not, so that no branch has to be guessed.
                   Found* out = found_.data() + place_[i];
                   for (int64_t e = t.start[quad[i]]; e < t.start[quad[i] + 1]; ++e) {
                     const uint16_t half = weight[QUAD_PIXELS * e];
                     *out = {splat_of_row(t, t.row[e]), half_to_float(half)};
                     out += half != 0;
                   }
                   row_start[i + 1] = out - (found_.data() + place_[i]);
                 }
               });
  row_start[0] = 0;
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t k = place_[i]; k < place_[i] + row_start[i + 1]; ++k)
      seen_[found_[k].splat >> 6] |= uint64_t(1) << (found_[k].splat & 63);
    row_start[i + 1] += row_start[i];
  }
  before_.resize(seen_.size());
  for (size_t w = 0; w < seen_.size(); ++w) {
    before_[w] = static_cast<int32_t>(touched_.size());
    for (uint64_t bits = seen_[w]; bits; bits &= bits - 1)
      touched_.push_back(int64_t(64 * w) + __builtin_ctzll(bits));
  }
}

void PixelRows::write(int32_t* column, float* weight) const {
  const int64_t count = static_cast<int64_t>(place_.size()) - 1;
  for (int64_t i = 0; i < count; ++i) {
    const Found* from = found_.data() + place_[i];
    for (int64_t k = row_start_[i]; k < row_start_[i + 1]; ++k, ++from) {
      const int word = from->splat >> 6;
      const uint64_t lower = (uint64_t(1) << (from->splat & 63)) - 1;
      column[k] = before_[word] + __builtin_popcountll(seen_[word] & lower);
      weight[k] = from->weight;
    }
  }
}

}  // namespace iqgs
