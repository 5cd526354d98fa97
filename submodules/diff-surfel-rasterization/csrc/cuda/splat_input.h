// SPDX-License-Identifier: Apache-2.0
// What the two directions of the projection read of a splat.
#pragma once

#include "../common/projection_math.h"
#include "launch.h"

namespace iqgs {
namespace cuda {

template <int SCALES>
__device__ __forceinline__ SplatInput<double, SCALES> load_splat(const ProjectParams& p,
                                                                 int64_t n) {
  const float *m = p.means + 3 * n, *s = p.scales + SCALES * n, *q = p.rotations + 4 * n;
  SplatInput<double, SCALES> r = {{m[0], m[1], m[2]}, {}, q[0], q[1], q[2], q[3], p.opacities[n]};
#pragma unroll
  for (int k = 0; k < SCALES; ++k) r.scale[k] = s[k];
  return r;
}

// Unit vector from the camera to a splat.
__device__ __forceinline__ Vec3<float> view_direction(const Camera& cam, const Vec3<float>& mean,
                                                      float& inverse_length) {
  const Vec3<float> eye = {float(cam.center[0]), float(cam.center[1]), float(cam.center[2])};
  const Vec3<float> d = mean - eye;
  inverse_length = 1.0f / larger(root(dot(d, d)), 1e-12f);
  return d * inverse_length;
}

}  // namespace cuda
}  // namespace iqgs
