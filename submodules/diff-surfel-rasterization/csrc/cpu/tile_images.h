// SPDX-License-Identifier: Apache-2.0
// A tile of an image plane, from and to the order of the patches: whole cache lines at a time.
#pragma once

#include "tile_batch.h"

namespace iqgs {
namespace IQGS_ISA {

// Where the tile lies in the planes.
struct TileWindow {
  int64_t first;      // index of its first pixel
  int64_t row;        // pixels from row to row
  int width, height;  // pixels inside the image
};

IQGS_INLINE TileWindow tile_window(const BlendParams& p, int tile) {
  const int x = tile % p.lists.tiles_x * TILE, y = tile / p.lists.tiles_x * TILE;
  const int right = p.camera.width - x, below = p.camera.height - y;
  return {int64_t(y) * p.camera.width + x, p.camera.width, right < TILE ? right : TILE,
          below < TILE ? below : TILE};
}

// Floats of row `row`, from patch to patch; `values` holds one vector per patch, `step` floats
// apart.
IQGS_INLINE float* patch_row(float* values, int step, int row) {
  return values + row / PATCH_HEIGHT * PATCHES_ACROSS * step + row % PATCH_HEIGHT * PATCH_WIDTH;
}

IQGS_INLINE void write_plane(const TileWindow& t, float* values, int step, float* plane) {
  float* out = plane + t.first;
  const bool lines = reinterpret_cast<uintptr_t>(out) % 64 == 0 && t.row % LANES == 0;
  for (int j = 0; j < t.height; ++j, out += t.row) {
    const float* in = patch_row(values, step, j);
    const F16 line = join_quads(load_quad(in), load_quad(in + step), load_quad(in + 2 * step),
                                load_quad(in + 3 * step));
    if (t.width < TILE) {
      alignas(64) float m[LANES];
      line.store(m);
      for (int i = 0; i < t.width; ++i) out[i] = m[i];
    } else if (lines) {
      line.stream(out);
    } else {
      line.store(out);
    }
  }
}

// Zero outside the image, and where there is no plane.
IQGS_INLINE void read_plane(const TileWindow& t, const float* plane, float* values, int step) {
  for (int j = 0; j < TILE; ++j) {
    F16 line(0.0f);
    if (plane && j < t.height) {
      const float* in = plane + t.first + j * t.row;
      if (t.width == TILE) {
        line = F16::load(in);
      } else {
        alignas(64) float m[LANES] = {};
        for (int i = 0; i < t.width; ++i) m[i] = in[i];
        line = F16::load(m);
      }
    }
    float* out = patch_row(values, step, j);
    store_quad(out, quad_of<0>(line));
    store_quad(out + step, quad_of<1>(line));
    store_quad(out + 2 * step, quad_of<2>(line));
    store_quad(out + 3 * step, quad_of<3>(line));
  }
}

}  // namespace IQGS_ISA
}  // namespace iqgs
