// SPDX-License-Identifier: Apache-2.0
// Everything that the kernels need of CUDA, and nothing of torch. The sources are also compiled by
// a host compiler (IQGS_HOST_SHIM, tests only), which runs each block's threads as fibers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "timing.h"

#if defined(IQGS_HOST_SHIM)
#include "cuda_shim.h"
#else
#include <cuda_runtime.h>
#endif

namespace iqgs {
namespace cuda {

constexpr int WARP = 32;
constexpr unsigned EVERY_LANE = 0xffffffffu;

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // forgets it: the next launch must not report it again
  throw std::runtime_error(std::string("iqgs CUDA: ") + what + ": " + cudaGetErrorString(status) +
                           " (CUDA_LAUNCH_BLOCKING=1 names the kernel that failed)");
}

inline int blocks_for(int64_t items, int per_block) {
  return static_cast<int>((items + per_block - 1) / per_block);
}

// Queues kernel(arguments...) on `stream`; `name` goes into the message if that fails.
template <class... Parameters, class... Arguments>
void launch(const char* name, void* stream, dim3 grid, dim3 block, size_t shared_bytes,
            void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  const Timed timed(name, stream);
#if defined(IQGS_HOST_SHIM)
  (void)stream;
  cuda_shim::run(name, grid, block, shared_bytes,
                 [&] { kernel(static_cast<Parameters>(arguments)...); });
#else
  if (shared_bytes > 48 * 1024)
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          name);
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(
      static_cast<Parameters>(arguments)...);
  check(cudaGetLastError(), name);
#endif
}

}  // namespace cuda
}  // namespace iqgs

// The block's dynamic shared memory as an array of T.
#if defined(IQGS_HOST_SHIM)
#define IQGS_DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(cuda_shim::dynamic_shared())
#else
#define IQGS_DYNAMIC_SHARED(T, name)                 \
  extern __shared__ __align__(16) char name##_raw[]; \
  T* name = reinterpret_cast<T*>(name##_raw)
#endif
