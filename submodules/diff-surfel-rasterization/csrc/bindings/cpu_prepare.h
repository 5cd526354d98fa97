// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/Parallel.h>

#include "../cpu/rasterizer.h"
#include "inputs.h"

namespace iqgs {
namespace torch_binding {

// Projection and tile lists: everything before the pixels.
inline std::vector<Tensor> prepare(const Inputs& in, const View& view, Tensor& radii) {
  const int64_t n = in.count();
  const int threads = at::get_num_threads();
  const TileGrid grid = tile_grid(view.camera);
  std::vector<Tensor> state(STATES);
  state[RECORDS] = floats({n, RECORD_FLOATS});
  state[FOOTPRINTS] = floats({n, FOOTPRINT_FLOATS});
  state[SHADES] = floats({n, SHADE_FLOATS});
  state[OFFSET] = ints({n + 1});
  radii = ints({n});
  Tensor boxes = ints({n, 2});
  project_splats(project_params(in, view, state, boxes, radii), threads);
  const int64_t pairs = count_pairs(data<TileBox>(boxes), n, data<int32_t>(state[OFFSET]), threads);
  state[START] = ints({int64_t(grid.x) * grid.y + 1});
  state[SPLAT] = ints({pairs});
  state[ROW] = ints({pairs});
  state[MASK] = ints({pairs});
  state[USED] = ints({int64_t(grid.x) * grid.y});
  bin_splats({grid, n, data<SplatRecord>(state[RECORDS]), data<TileBox>(boxes),
              data<int32_t>(state[OFFSET]), data<int32_t>(state[START]),
              data<int32_t>(state[SPLAT]), data<int32_t>(state[ROW])},
             threads);
  return state;
}

}  // namespace torch_binding
}  // namespace iqgs
