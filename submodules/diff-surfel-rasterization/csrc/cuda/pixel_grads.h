// SPDX-License-Identifier: Apache-2.0
// Image gradients as the backward pass holds them: each lane those of its pixel, and, to sum over
// half a warp, those of some channels at all pixels of the half.
#pragma once

#include "tile.h"

namespace iqgs {
namespace cuda {

// What a launch differentiates beside its channels.
enum Geometry { NO_GEOMETRY, PLANE, PLANE_AND_DEPTH };

// Image gradients and state of one pixel.
template <int CHANNELS>
struct PixelGrad {
  float channels[CHANNELS];
  float depth, median_depth, distortion;
  float rest;           // light behind, times its gradient
  float transmittance;  // behind the splat at hand
  int last, median;     // positions in the tile's list
  DistortionSums<float> sums;
};

// Half a warp sums its weights times image gradients over its pixels for 16 channels at a time, a
// lane a channel; for the last eight a lane has one channel of eight pixels, for the last four one
// of four. So a lane keeps as many image gradients as there are channels.
template <int CHANNELS>
struct HalfGrad {
  float channels[CHANNELS];
};

__host__ __device__ constexpr int part_of(int channels) {
  return channels >= 16 ? 16 : channels >= 8 ? 8 : 4;
}

// dL/d(channel c of the image), [H, W]; null where no such gradient came in.
SURFEL_HD const float* grad_plane(const BlendGradParams& p, int c) {
  const float* from = c < 3 ? p.normal : c < SHADE_CHANNELS ? p.color : p.feature;
  const int k = c < 3 ? c : c < SHADE_CHANNELS ? c - 3 : c - SHADE_CHANNELS;
  return from ? from + int64_t(k) * p.forward.camera.width * p.forward.camera.height : nullptr;
}

// That of one pixel, or zero.
__device__ __forceinline__ float image_grad(const BlendGradParams& p, int c, int64_t pixel) {
  const float* plane = grad_plane(p, c);
  return plane ? plane[pixel] : 0.0f;
}

// The image gradients of a launch's channels; null where none came in, and beyond them.
struct ChannelGrads {
  const float* planes[WIDEST];  // [H, W] each
};

inline ChannelGrads channel_grads(const BlendGradParams& p, int first, int count) {
  ChannelGrads r = {};
  for (int k = 0; k < count; ++k) r.planes[k] = grad_plane(p, first + k);
  return r;
}

template <int CHANNELS, int GEOMETRY>
__device__ void load_grads(const BlendGradParams& p, const PixelTotals& t, const ChannelGrads& c,
                           const Pixel& pixel, PixelGrad<CHANNELS>& g) {
  g = {};
  g.median = -1;
  if (!pixel.inside) return;
  const int64_t i = pixel.index;
  g.last = t.last[i];
  if (g.last == 0) return;  // nothing was drawn here
#pragma unroll
  for (int k = 0; k < CHANNELS; ++k) g.channels[k] = c.planes[k] ? c.planes[k][i] : 0.0f;
  g.transmittance = t.transmittance[i];
  if (GEOMETRY == NO_GEOMETRY) return;
  float behind = p.alpha ? -p.alpha[i] : 0.0f;
  for (int k = 0; k < 3; ++k)
    behind = fused(image_grad(p, 3 + k, i), p.forward.background[k], behind);
  g.rest = g.transmittance * behind;
  if (GEOMETRY == PLANE) return;
  g.depth = p.depth ? p.depth[i] : 0.0f;
  g.median_depth = p.median_depth ? p.median_depth[i] : 0.0f;
  g.distortion = p.distortion ? p.distortion[i] : 0.0f;
  g.median = t.median[i];
  g.sums = {1.0f - g.transmittance, t.first[i], t.second[i]};
}

// From channel FIRST of CHANNELS on.
template <int FIRST, int CHANNELS>
__device__ void load_half(const Camera& camera, const ChannelGrads& c, const Pixel& pixel,
                          HalfGrad<CHANNELS>& g) {
  constexpr int PART = part_of(CHANNELS - FIRST);
  const int lane = lane_index() % HALF;
  const float* plane = c.planes[FIRST + lane % PART];
  const int x = pixel.x - lane % BLOCK, y = pixel.y - lane / BLOCK + lane / PART * PART / BLOCK;
  if (plane) plane += int64_t(y) * camera.width + x;
#pragma unroll
  for (int k = 0; k < PART; ++k) {
    const int dx = k % BLOCK, dy = k / BLOCK;
    const bool inside = plane && x + dx < camera.width && y + dy < camera.height;
    g.channels[FIRST + k] = inside ? plane[dy * camera.width + dx] : 0.0f;
  }
  if constexpr (FIRST + PART < CHANNELS) load_half<FIRST + PART>(camera, c, pixel, g);
}

// Whether a gradient of the warp's pixels times a weight of zero is not zero: see TAME. The same
// in all lanes.
template <int CHANNELS>
__device__ __forceinline__ bool any_wild(const HalfGrad<CHANNELS>& g) {
  float size = 0.0f;
#pragma unroll
  for (int k = 0; k < CHANNELS; ++k) size += magnitude(g.channels[k]);
  return __any_sync(EVERY_LANE, !(size < TAME));
}

}  // namespace cuda
}  // namespace iqgs
