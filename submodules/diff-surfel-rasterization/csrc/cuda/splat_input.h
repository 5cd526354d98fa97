// SPDX-License-Identifier: Apache-2.0
// What the two directions of the projection read of a splat.
#pragma once

#include "../common/projection_math.h"
#include "launch.h"
#include "twofold.h"

namespace iqgs {
namespace cuda {

// In what the geometry is computed, double or Twofold, as the device is: the camera in it, made by the
// host.
template <class R>
CameraOf<R> camera_in(const Camera& c) {
  CameraOf<R> r;
  for (int i = 0; i < 9; ++i) r.rotation[i] = R(c.rotation[i]);
  for (int i = 0; i < 3; ++i) {
    r.translation[i] = R(c.translation[i]);
    r.center[i] = R(c.center[i]);
  }
  r.fx = R(c.fx), r.fy = R(c.fy), r.cx = R(c.cx), r.cy = R(c.cy);
  r.scale_modifier = R(c.scale_modifier);
  r.near = c.near, r.far = c.far;
  r.width = c.width, r.height = c.height;
  r.center_depth = c.center_depth, r.aabb_anchor = c.aabb_anchor;
  return r;
}

template <class R, int SCALES>
__device__ __forceinline__ SplatInput<R, SCALES> load_splat(const ProjectParams& p, int64_t n) {
  const float *m = p.means + 3 * n, *s = p.scales + SCALES * n, *q = p.rotations + 4 * n;
  SplatInput<R, SCALES> r = {{R(m[0]), R(m[1]), R(m[2])},
                             {},
                             R(q[0]),
                             R(q[1]),
                             R(q[2]),
                             R(q[3]),
                             R(p.opacities[n])};
#pragma unroll
  for (int k = 0; k < SCALES; ++k) r.scale[k] = R(s[k]);
  return r;
}

// Unit vector from the camera to a splat.
template <class R>
__device__ __forceinline__ Vec3<float> view_direction(const CameraOf<R>& cam,
                                                      const Vec3<float>& mean,
                                                      float& inverse_length) {
  const Vec3<float> eye = {float(cam.center[0]), float(cam.center[1]), float(cam.center[2])};
  const Vec3<float> d = mean - eye;
  inverse_length = 1.0f / larger(root(dot(d, d)), 1e-12f);
  return d * inverse_length;
}

}  // namespace cuda
}  // namespace iqgs
