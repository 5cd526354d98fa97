// SPDX-License-Identifier: Apache-2.0
// Every step takes chunks whose number depends on the input alone, and joins their counts in
// order: the lists are the same whatever thread does which chunk.
#include "binning.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../common/bounds_math.h"
#include "../common/constants.h"
#include "memory_pool.h"
#include "parallel.h"

namespace iqgs {
namespace {

struct DepthKey {
  uint32_t depth;  // bits of a positive float: they sort like the number
  int32_t splat;
};

// A splat in a tile, on its way to the tile's list.
struct Pair {
  int32_t tile, splat, row;
};

constexpr int DIGIT_BITS = 11;  // three passes cover 32 bits; the counters stay in L1
constexpr int DIGITS = 1 << DIGIT_BITS;
constexpr int PASSES = 3;
constexpr int64_t LEAST_CHUNK = 4096, MOST_CHUNKS = 16;

// Memory for the length of one call.
template <class T>
struct Scratch {
  T* const data;
  explicit Scratch(int64_t count)
      : data(static_cast<T*>(take_block(std::max<int64_t>(count, 1) * sizeof(T)))) {}
  ~Scratch() { give_block(data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

struct Chunks {
  int64_t items, count;
  explicit Chunks(int64_t items)
      : items(items), count(std::min((items + LEAST_CHUNK - 1) / LEAST_CHUNK, MOST_CHUNKS)) {}
  int64_t first(int64_t c) const { return items * c / count; }
  // work(chunk, first item, one past the last)
  template <class Work>
  void each(int threads, const Work& work) const {
    parallel_for(count, 1, threads, [&](int64_t c, Arena&) { work(c, first(c), first(c + 1)); });
  }
};

// counts[chunk][bin] becomes the place of the chunk's first item of that bin; `starts`, where
// given, the place of the bin.
void place_counts(std::vector<int32_t>& counts, int64_t chunks, int64_t bins, int32_t* starts) {
  int32_t sum = 0;
  for (int64_t b = 0; b < bins; ++b) {
    if (starts) starts[b] = sum;
    for (int64_t c = 0; c < chunks; ++c) sum += std::exchange(counts[c * bins + b], sum);
  }
  if (starts) starts[bins] = sum;
}

// The visible splats in the order of their indices; their number.
int64_t visible_keys(const BinParams& p, int threads, DepthKey* keys) {
  const Chunks chunks(p.count);
  std::vector<int32_t> place(chunks.count, 0);
  chunks.each(threads, [&](int64_t c, int64_t first, int64_t last) {
    int32_t visible = 0;
    for (int64_t n = first; n < last; ++n) visible += p.offset[n + 1] != p.offset[n];
    place[c] = visible;
  });
  int32_t sum = 0;
  for (int32_t& at : place) sum += std::exchange(at, sum);
  chunks.each(threads, [&](int64_t c, int64_t first, int64_t last) {
    DepthKey* out = keys + place[c];
    for (int64_t n = first; n < last; ++n) {
      if (p.offset[n + 1] == p.offset[n]) continue;
      std::memcpy(&out->depth, &p.records[n].depth, sizeof(float));
      out++->splat = static_cast<int32_t>(n);
    }
  });
  return sum;
}

// Stable, so that equal depths keep the order of their indices. Returns where the result lies.
DepthKey* sort_by_depth(DepthKey* keys, DepthKey* other, int64_t count, int threads) {
  const Chunks chunks(count);
  for (int pass = 0; pass < PASSES; ++pass) {
    const int shift = pass * DIGIT_BITS;
    std::vector<int32_t> place(chunks.count * DIGITS, 0);
    chunks.each(threads, [&](int64_t c, int64_t first, int64_t last) {
      int32_t* at = place.data() + c * DIGITS;
      for (int64_t i = first; i < last; ++i) ++at[(keys[i].depth >> shift) & (DIGITS - 1)];
    });
    place_counts(place, chunks.count, DIGITS, nullptr);
    chunks.each(threads, [&](int64_t c, int64_t first, int64_t last) {
      int32_t* at = place.data() + c * DIGITS;
      for (int64_t i = first; i < last; ++i)
        other[at[(keys[i].depth >> shift) & (DIGITS - 1)]++] = keys[i];
    });
    std::swap(keys, other);
  }
  return keys;
}

// Positions in a box of up to four tiles, by its width: no branch depends on its shape.
constexpr int FEW = 4;
constexpr uint8_t ACROSS[FEW + 1][FEW] = {
    {0, 0, 0, 0}, {0, 0, 0, 0}, {0, 1, 0, 1}, {0, 1, 2, 0}, {0, 1, 2, 3}};
constexpr uint8_t DOWN[FEW + 1][FEW] = {
    {0, 0, 0, 0}, {0, 1, 2, 3}, {0, 0, 1, 1}, {0, 0, 0, 1}, {0, 0, 0, 0}};

// The pairs of one splat, tile by tile; may write FEW pairs where there are fewer. Returns the end.
Pair* list_pairs(const TileBox& box, int tiles_x, int32_t splat, int32_t row, Pair* out) {
  const int width = box.x1 - box.x0;
  const int64_t pairs = area(box);
  if (pairs <= FEW) {
    const int32_t tile = box.y0 * tiles_x + box.x0;
    for (int k = 0; k < FEW; ++k)
      out[k] = {tile + DOWN[width][k] * tiles_x + ACROSS[width][k], splat, row + k};
    return out + pairs;
  }
  for (int y = box.y0; y < box.y1; ++y)
    for (int x = box.x0; x < box.x1; ++x) *out++ = {y * tiles_x + x, splat, row++};
  return out;
}

}  // namespace

int64_t count_pairs(const TileBox* boxes, int64_t count, int32_t* offset, int threads) {
  const Chunks chunks(count);
  std::vector<int64_t> place(chunks.count, 0);
  chunks.each(threads, [&](int64_t c, int64_t first, int64_t last) {
    int64_t pairs = 0;
    for (int64_t n = first; n < last; ++n) pairs += area(boxes[n]);
    place[c] = pairs;
  });
  int64_t sum = 0;
  for (int64_t& at : place) sum += std::exchange(at, sum);
  if (sum > std::numeric_limits<int32_t>::max())
    throw std::runtime_error(
        "rasterize: more than 2^31 (tile, splat) pairs; are the scales far too large?");
  chunks.each(threads, [&](int64_t c, int64_t first, int64_t last) {
    int64_t pairs = place[c];
    for (int64_t n = first; n < last; ++n) {
      offset[n] = static_cast<int32_t>(pairs);
      pairs += area(boxes[n]);
    }
  });
  offset[count] = static_cast<int32_t>(sum);
  return sum;
}

void bin_splats(const BinParams& p, int threads) {
  const int64_t tiles = int64_t(p.grid.x) * p.grid.y, pairs = p.offset[p.count];
  Scratch<DepthKey> one(p.count), two(p.count);
  const int64_t visible = visible_keys(p, threads, one.data);
  const DepthKey* keys = sort_by_depth(one.data, two.data, visible, threads);

  // Each chunk of the sorted splats lists its pairs and counts them by tile ...
  const Chunks chunks(visible);
  Scratch<TileBox> boxes(visible);
  std::vector<int64_t> place(chunks.count + 1, 0);
  chunks.each(threads, [&](int64_t c, int64_t first, int64_t last) {
    int64_t sum = 0;
    for (int64_t i = first; i < last; ++i) {
      boxes.data[i] = p.boxes[keys[i].splat];
      sum += area(boxes.data[i]);
    }
    place[c + 1] = sum;
  });
  for (int64_t c = 0; c < chunks.count; ++c) place[c + 1] += place[c];
  // Room for what each chunk may write past its end, so that chunks do not overlap.
  Scratch<Pair> listed(pairs + FEW * chunks.count);
  auto list_of = [&](int64_t c) { return listed.data + place[c] + FEW * c; };
  std::vector<int32_t> next(chunks.count * tiles, 0);
  chunks.each(threads, [&](int64_t c, int64_t first, int64_t last) {
    Pair* out = list_of(c);
    for (int64_t i = first; i < last; ++i)
      out = list_pairs(boxes.data[i], p.grid.x, keys[i].splat, p.offset[keys[i].splat], out);
    int32_t* count = next.data() + c * tiles;
    for (const Pair* pair = list_of(c); pair != out; ++pair) ++count[pair->tile];
  });
  place_counts(next, chunks.count, tiles, p.start);

  // ... and then knows where in the tiles' lists they go.
  chunks.each(threads, [&](int64_t c, int64_t, int64_t) {
    int32_t* at = next.data() + c * tiles;
    const Pair* end = list_of(c) + (place[c + 1] - place[c]);
    for (const Pair* pair = list_of(c); pair != end; ++pair) {
      const int32_t to = at[pair->tile]++;
      p.splat[to] = pair->splat;
      p.row[to] = pair->row;
    }
  });
}

}  // namespace iqgs
