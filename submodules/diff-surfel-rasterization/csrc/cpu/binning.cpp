// SPDX-License-Identifier: Apache-2.0
#include "binning.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../common/constants.h"
#include "parallel.h"

namespace iqgs {
namespace {

struct DepthKey {
  uint32_t depth;  // bits of a positive float: they sort like the number
  int32_t splat;
};

constexpr int DIGIT_BITS = 11;  // three passes cover 32 bits; the counters stay in L1
constexpr int DIGITS = 1 << DIGIT_BITS;
constexpr size_t AHEAD = 16;  // splats; in depth order their boxes lie anywhere

std::vector<DepthKey> visible_keys(const BinParams& p) {
  std::vector<DepthKey> keys;
  keys.reserve(p.count);
  for (int64_t n = 0; n < p.count; ++n) {
    if (p.offset[n + 1] == p.offset[n]) continue;
    DepthKey key = {0, static_cast<int32_t>(n)};
    std::memcpy(&key.depth, &p.records[n].depth, sizeof(float));
    keys.push_back(key);
  }
  return keys;
}

// Stable, so that equal depths keep the order of their indices.
void sort_by_depth(std::vector<DepthKey>& keys) {
  std::vector<int32_t> place(3 * DIGITS, 0);
  for (const DepthKey& k : keys)
    for (int pass = 0; pass < 3; ++pass)
      ++place[pass * DIGITS + ((k.depth >> (pass * DIGIT_BITS)) & (DIGITS - 1))];
  std::vector<DepthKey> other(keys.size());
  for (int pass = 0; pass < 3; ++pass) {
    int32_t* at = place.data() + pass * DIGITS;
    int32_t sum = 0;
    for (int d = 0; d < DIGITS; ++d) sum += std::exchange(at[d], sum);
    for (const DepthKey& k : keys) other[at[(k.depth >> (pass * DIGIT_BITS)) & (DIGITS - 1)]++] = k;
    keys.swap(other);
  }
}

// Calls visit(tile, k) for the tiles of a box in rows [y0, y1); k counts within the whole box.
template <class Visit>
void each_tile(const TileBox& box, int tiles_x, int y0, int y1, const Visit& visit) {
  const int width = box.x1 - box.x0;
  for (int y = std::max<int>(box.y0, y0); y < std::min<int>(box.y1, y1); ++y)
    for (int x = box.x0; x < box.x1; ++x)
      visit(y * tiles_x + x, (y - box.y0) * width + (x - box.x0));
}

}  // namespace

int64_t count_pairs(const TileBox* boxes, int64_t count, int32_t* offset) {
  int64_t pairs = 0;
  for (int64_t n = 0; n < count; ++n) {
    offset[n] = static_cast<int32_t>(pairs);
    pairs += int64_t(boxes[n].x1 - boxes[n].x0) * (boxes[n].y1 - boxes[n].y0);
    if (pairs > std::numeric_limits<int32_t>::max())
      throw std::runtime_error(
          "rasterize: more than 2^31 (tile, splat) pairs; are the scales far too large?");
  }
  offset[count] = static_cast<int32_t>(pairs);
  return pairs;
}

void bin_splats(const BinParams& p, int threads) {
  std::vector<DepthKey> keys = visible_keys(p);
  sort_by_depth(keys);
  const int tiles = p.grid.x * p.grid.y;
  // Each thread owns a band of tile rows and walks all splats in depth order.
  const int bands = std::max(1, std::min(threads, p.grid.y));
  auto band_start = [&](int64_t b) { return static_cast<int>(b * p.grid.y / bands); };
  std::fill(p.start, p.start + tiles + 1, 0);
  parallel_for(bands, 1, threads, [&](int64_t b, Arena&) {
    for (int64_t n = 0; n < p.count; ++n)
      each_tile(p.boxes[n], p.grid.x, band_start(b), band_start(b + 1),
                [&](int tile, int) { ++p.start[tile + 1]; });
  });
  for (int t = 0; t < tiles; ++t) p.start[t + 1] += p.start[t];
  std::vector<int32_t> next(p.start, p.start + tiles);
  parallel_for(bands, 1, threads, [&](int64_t b, Arena&) {
    for (size_t i = 0; i < keys.size(); ++i) {
      if (i + AHEAD < keys.size()) {
        __builtin_prefetch(p.boxes + keys[i + AHEAD].splat);
        __builtin_prefetch(p.offset + keys[i + AHEAD].splat);
      }
      const int32_t splat = keys[i].splat;
      each_tile(p.boxes[splat], p.grid.x, band_start(b), band_start(b + 1),
                [&](int tile, int in_box) {
                  int32_t at = next[tile]++;
                  p.splat[at] = splat;
                  p.row[at] = p.offset[splat] + in_box;
                });
    }
  });
}

}  // namespace iqgs
