// SPDX-License-Identifier: Apache-2.0
// The numbers that every backend must share. diff_surfel_rasterization/constants.py mirrors the
// first group; a test compares the two.
#pragma once

namespace iqgs {

// One step of an 8-bit image: a fainter splat is skipped. Equivalent to rho <= 2 ln(255 o).
constexpr float SUPPORT_ALPHA = 1.0f / 255.0f;
// A pixel is finished before the splat that would push its transmittance below this.
constexpr float STOP_TRANSMITTANCE = 1e-4f;
// Keeps 1 - alpha invertible in the backward pass; the gradient is zero where it bites.
constexpr float MAX_ALPHA = 0.99f;
// The screen-space low-pass is a Gaussian of variance 1/2 px^2: rho2 = 2 d^2.
constexpr float LOW_PASS_PRECISION = 2.0f;
// The median depth belongs to the last splat reached while T is above this.
constexpr float MEDIAN_TRANSMITTANCE = 0.5f;
// Ellipsoids (3DGS): variance added to both axes of a splat on screen, px^2, so that none falls
// between pixels.
constexpr float SCREEN_DILATION = 0.3f;
// Ellipsoids: the perspective is linearised no farther outside the image than this share of half its
// width and height; beyond, its slope would blow splats up that nobody sees.
constexpr float RATIO_MARGIN = 0.3f;
// Radii and the 2DGS-compatible anchor use the box of the 3 sigma ellipse, whatever the opacity.
constexpr float BOX_SIGMAS = 3.0f;
// 3 sigma of the low-pass: no splat is reported smaller.
constexpr float MIN_RADIUS = 2.1213203435596424f;
// A splat whose plane contains the camera centre has no area and an undefined intersection. Below
// this |cos| of the viewing angle float32 cannot tell the side that it is seen from.
constexpr float EDGE_ON_COSINE = 1e-5f;
// (depth of centre) / (depth of intersection). Below it the ray runs along the plane or meets it
// behind the camera: no hit.
constexpr float PARALLEL_RATIO = 1e-4f;

// Up to this sum of absolute values a pixel's gradients times a weight of zero are zero. Not so where
// one is infinite or no number, as a renderer that divides by alpha leaves it in pixels that no splat
// covers: such wild pixels are kept apart, so that they reach those splats alone that they received
// light from. Far above what the gradient of any loss means.
constexpr float TAME = 1e30f;

// Pixels along the side of a tile, the unit of sorting and of work.
constexpr int TILE = 16;
// Pixels along the longest side of an image: tiles are counted in 16 bits.
constexpr int LONGEST_SIDE = 65535 * TILE;
// Pixels along the side of a block, the unit of culling: one pixel per vector lane.
constexpr int BLOCK = 4;
constexpr int BLOCK_PIXELS = BLOCK * BLOCK;
constexpr int BLOCKS_PER_TILE = (TILE / BLOCK) * (TILE / BLOCK);

// Bounds are grown by these so that their rounding never drops a pixel of the support.
constexpr float BOUND_SLACK_PIXELS = 0.02f;
constexpr float BOUND_SLACK_RELATIVE = 1e-3f;
// Sums of weights by label are whole numbers of this many parts of a weight of one: whole numbers
// add up to the same bits in any order. An int64 holds 8.6e9 pixels that are covered in full.
constexpr float LABEL_WEIGHT_PARTS = 1073741824.0f;  // 2^30
// Nearer than this to crossing the camera plane (rho |M_w|^2 / z^2) the ellipse's box loses its
// digits; the disc then gets the whole image, which is correct and rare.
constexpr float CROSSING_RATIO = 0.99f;
// Half extent that stands for "everywhere": beyond any image, squares stay finite in float32.
constexpr float EVERYWHERE = 1e9f;

}  // namespace iqgs
