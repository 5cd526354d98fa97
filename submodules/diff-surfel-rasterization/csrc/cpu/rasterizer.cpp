// SPDX-License-Identifier: Apache-2.0
#include "rasterizer.h"

#include <algorithm>

#include "parallel.h"

namespace iqgs {
namespace {

constexpr int64_t SPLATS_PER_CHUNK = 2048;  // a multiple of the lanes
constexpr int64_t TILES_PER_CHUNK = 4;

template <class Params>
void each_splat_chunk(const Params& p, int64_t count, int threads,
                      void (*kernel)(const Params&, int64_t, int64_t, Arena&)) {
  const int64_t chunks = (count + SPLATS_PER_CHUNK - 1) / SPLATS_PER_CHUNK;
  parallel_for(chunks, 1, threads, [&](int64_t c, Arena& arena) {
    kernel(p, c * SPLATS_PER_CHUNK, std::min(count, (c + 1) * SPLATS_PER_CHUNK), arena);
  });
}

template <class Params>
void each_tile(const Params& p, const TileLists& lists, int threads,
               void (*kernel)(const Params&, int, Arena&)) {
  parallel_for(int64_t(lists.tiles_x) * lists.tiles_y, TILES_PER_CHUNK, threads,
               [&](int64_t tile, Arena& arena) { kernel(p, static_cast<int>(tile), arena); });
}

}  // namespace

void project_splats(const ProjectParams& p, int threads) {
  each_splat_chunk(p, p.count, threads, kernels(p.primitive).project);
}

void blend_tiles(const BlendParams& p, int threads) {
  each_tile(p, p.lists, threads, kernels(p.primitive).blend_forward);
}

void blend_tiles_backward(const BlendGradParams& p, int threads) {
  each_tile(p, p.forward.lists, threads, kernels(p.forward.primitive).blend_backward);
}

void project_splats_backward(const ProjectGradParams& p, int threads) {
  each_splat_chunk(p, p.forward.count, threads, kernels(p.forward.primitive).project_backward);
}

void weigh_tiles(const WeightParams& p, int threads) {
  each_tile(p, p.blend.lists, threads, kernels(p.blend.primitive).weights);
}

void weigh_tiles(const QuadWeightParams& p, int threads) {
  each_tile(p, p.blend.lists, threads, kernels(p.blend.primitive).quad_weights);
}

void weigh_tiles(const LabelWeightParams& p, int threads) {
  each_tile(p, p.blend.lists, threads, kernels(p.blend.primitive).label_weights);
}

}  // namespace iqgs
