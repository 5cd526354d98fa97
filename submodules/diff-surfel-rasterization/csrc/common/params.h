// SPDX-License-Identifier: Apache-2.0
// What goes into and comes out of the kernels: plain structs of numbers and pointers.
#pragma once

#include <cstdint>

#include "constants.h"

namespace iqgs {

// What a splat is: a flat Gaussian with two scales (2DGS), or one with three (3DGS).
enum class Primitive { SURFEL, ELLIPSOID };

// One pinhole view. Pixels follow COLMAP: the centre of the first pixel is at (0.5, 0.5). Number:
// double, or what stands for it on a device that has slow ones.
template <class Number>
struct CameraOf {
  Number rotation[9];     // world to camera, row-major; x right, y down, z forward
  Number translation[3];  // world to camera
  Number center[3];       // camera centre in the world, for the direction of the harmonics
  Number fx, fy, cx, cy;  // pixels
  Number scale_modifier;  // multiplies the scales
  float near, far;        // near cuts; both shape the depth mapping of the distortion
  int width, height;      // pixels
  bool center_depth;      // surfels: low-pass pixels take the depth of the centre, not of the plane
  bool aabb_anchor;       // surfels: low-pass disc at the centre of the 3 sigma box, not of the splat
};
using Camera = CameraOf<double>;

struct TileGrid {
  int x, y;  // tiles
};

inline TileGrid tile_grid(const Camera& camera) {
  return {(camera.width + TILE - 1) / TILE, (camera.height + TILE - 1) / TILE};
}

// A splat as its pixels see it. With (dx, dy) = pixel - (x, y):
//   ratio = 1 + e dx + f dy,  u = (a dx + b dy) / ratio,  v = (c dx + d dy) / ratio,
//   depth of the intersection = depth / ratio.
// The record of an ellipsoid is that of a splat without slope: c = e = f = 0, no anchor.
struct alignas(16) SplatRecord {
  float x, y;                // projected centre, pixels of the image (of the tile, in a tile)
  float a, b, c, d;          // surfel: adjugate of the ray transform over its determinant;
                             // ellipsoid: whitening of the image
  float e, f;                // slope of the inverse depth over the image
  float depth;               // camera depth of the centre
  float opacity;             // peak alpha
  float cut;                 // rho beyond which alpha < 1/255
  float anchor_x, anchor_y;  // centre of the low-pass disc, relative to (x, y)
  float x_rest, y_rest;      // what float32 leaves over of x and y: a tile adds it back
  float inverse_depth;       // 1 / depth
};
constexpr int RECORD_FLOATS = sizeof(SplatRecord) / sizeof(float);
static_assert(RECORD_FLOATS == 16, "a record fills one cache line");

// What a splat looks like, before its features: the head of its row of channels.
struct alignas(16) SplatShade {
  float normal[3];  // camera frame, facing the camera
  float color[3];   // given, or from the harmonics
  float unused[2];  // fills half a cache line
};
constexpr int SHADE_FLOATS = sizeof(SplatShade) / sizeof(float);
constexpr int SHADE_CHANNELS = 6;

// Where a splat can contribute: an ellipse and the low-pass disc, both grown by the slack.
struct alignas(16) Footprint {
  float x, y;            // centre of the ellipse, pixels
  float half_x, half_y;  // half extents of its box
  float slope;           // dx/dy of the line of centres of its horizontal chords
  float chord;           // half length of the chord through its centre
  float disc;            // radius of the low-pass disc around the anchor
  float unused;          // fills half a cache line
};
constexpr int FOOTPRINT_FLOATS = sizeof(Footprint) / sizeof(float);

// Tiles that a splat's box touches, half open; empty where the splat is culled.
struct TileBox {
  uint16_t x0, y0, x1, y1;
};

// Splats to records.
struct ProjectParams {
  Primitive primitive;
  Camera camera;
  int64_t count;           // N
  const float* means;      // [N, 3] world
  const float* scales;     // [N, 2], of ellipsoids [N, 3]
  const float* rotations;  // [N, 4] w x y z, any length but zero
  const float* opacities;  // [N]
  const float* colors;     // [N, 3] or null
  const float* sh;         // [N, sh_stride, 3] or null, exactly one of the two
  int sh_stride;           // coefficients stored per splat
  int sh_degree;           // active degree
  SplatRecord* records;    // [N] out
  Footprint* footprints;   // [N] out
  TileBox* boxes;          // [N] out
  int32_t* radii;          // [N] out
  SplatShade* shades;      // [N] out
};

// Pairs of (tile, splat) in tile-major, front-to-back order.
struct TileLists {
  int tiles_x, tiles_y;
  const int32_t* start;  // [tiles + 1] first pair of each tile
  const int32_t* splat;  // [M] splat of each pair
  const int32_t* row;    // [M] place of the pair among the splat's pairs: offset[splat] + k
  uint32_t* mask;        // [M] bit k: patch k of the tile can be touched; forward writes
  int32_t* used;         // [tiles] pairs until every pixel was saturated; forward writes
};

// Records to images. Channels of a splat: normal (3), colour (3), features (C).
struct BlendParams {
  Primitive primitive;
  Camera camera;
  TileLists lists;
  const SplatRecord* records;   // [N]
  const Footprint* footprints;  // [N]
  const SplatShade* shades;     // [N]
  const float* features;        // [N, C]
  int feature_count;            // C
  float background[3];          // behind colour only
  float* color;                 // [3, H, W] out, and so on
  float* feature;               // [C, H, W]
  float* alpha;                 // [H, W]
  float* depth;                 // [H, W] sum of w z
  float* median_depth;          // [H, W]
  float* normal;                // [3, H, W]
  float* distortion;            // [H, W]
};

// Blending weights of one view summed by splat and by the label of the pixel, without a table.
struct LabelWeightParams {
  BlendParams blend;      // its image pointers are not read
  float min_weight;       // smaller weights are left out
  const int32_t* labels;  // [L, H, W] columns of the sums, one a map; negative: none
  int maps;               // L
  int64_t columns;        // C
  int64_t* sums;          // [N, C] added to, in LABEL_WEIGHT_PARTS of a weight
};

// Layout of a pair's gradient row: MOMENTS floats, then the active channels. Those of W, ANCHOR and
// HIT_DEPTH are zero for ellipsoids.
enum Moment {
  M_U,
  M_U_DX,
  M_U_DY,  // sums over pixels of (dL/du) / ratio times 1, dx, dy
  M_V,
  M_V_DX,
  M_V_DY,  // the same of v
  M_W,
  M_W_DX,
  M_W_DY,   // sums of dL/dratio times 1, dx, dy
  M_ALPHA,  // sum of alpha dL/dalpha
  M_ANCHOR_X,
  M_ANCHOR_Y,          // sums of dL/danchor
  M_ALWAYS,            // the rest needs gradients of depth, or the absolute signal
  M_DEPTH = M_ALWAYS,  // sum of dL/d(depth of the centre), through the depth of the pixels
  M_HIT_DEPTH,         // the same over pixels of the intersection alone (not the low-pass)
  M_ABS_X,
  M_ABS_Y,  // sums of |the screen signal of one pixel|
  MOMENTS
};

// Gradients of images to gradients of pairs. Null image gradients are zero.
struct BlendGradParams {
  BlendParams forward;        // its output pointers are not read
  const float* color;         // [3, H, W] dL/dcolor, and so on
  const float* feature;       // [C, H, W]
  const float* alpha;         // [H, W]
  const float* depth;         // [H, W]
  const float* median_depth;  // [H, W]
  const float* normal;        // [3, H, W]
  const float* distortion;    // [H, W]
  bool geometry;              // moments are wanted
  bool absolute;              // M_ABS_* are wanted
  bool signed_too;            // so is the signed signal
  int first_channel;          // the active channels are first .. first + count
  int channel_count;
  int row_floats;  // MOMENTS (if geometry) + channel_count, in whole cache lines
  float* rows;     // [M, row_floats] out, on a cache line
};

// Gradients of pairs, summed per splat, to gradients of the parameters.
struct ProjectGradParams {
  ProjectParams forward;  // its output pointers are not written
  const int32_t* offset;  // [N + 1] first row of each splat
  const float* rows;      // [M, row_floats]
  int row_floats;         // as above
  bool geometry;          // rows hold moments
  int first_channel;      // of the active channels
  int channel_count;      // 0: no channel gradients
  int feature_count;      // C
  float* means;           // [N, 3] out; null where not wanted, as all below
  float* scales;          // [N, 2], of ellipsoids [N, 3]
  float* rotations;       // [N, 4]
  float* opacities;       // [N]
  float* colors;          // [N, 3]
  float* sh;              // [N, sh_stride, 3]
  float* features;        // [N, C]
  float* screen;          // [N, 3]
  float* screen_abs;      // [N, 3]
};

}  // namespace iqgs
