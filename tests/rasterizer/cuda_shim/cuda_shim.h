// SPDX-License-Identifier: Apache-2.0
// Enough of CUDA for a host compiler to build and run the kernels: the threads of a block are
// fibers, a warp runs until all its lanes wait, and what would hang or be undefined on a GPU stops
// with a sentence. Seen: logic, indexing, barriers, collectives, early exits. Not seen: weak memory
// orders, registers, approximate intrinsics, the order of atomics.
#pragma once

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct uint2 {
  unsigned x, y;
};
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline uint2 make_uint2(unsigned x, unsigned y) {
  return {x, y};
}

namespace cuda_shim {

enum Operation {
  SHUFFLE,
  SHUFFLE_XOR,
  SHUFFLE_UP,
  SHUFFLE_DOWN,
  BALLOT,
  ANY,
  ALL,
  SYNC_WARP,
  SYNC,
  SYNC_COUNT,
  SYNC_AND,
  SYNC_OR
};

struct Place {
  dim3 thread, block, block_size, grid_size;
};
extern Place place;  // of the running fiber

// Runs body() once for every thread of every block. Throws std::runtime_error on a fault.
void run(const char* name, dim3 grid, dim3 block, size_t shared_bytes,
         const std::function<void()>& body);
// The lane waits until all lanes of `mask` have arrived at the same place: `site` is the line of
// the call, since CUDA wants one and the same call.
uint64_t collective(Operation operation, unsigned mask, uint64_t value, int argument, int site);
// The thread waits for all threads of its block.
int barrier(Operation operation, int value, int site);
char* dynamic_shared();

template <class T>
T exchange(Operation operation, unsigned mask, T value, int argument, int site) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most eight bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = collective(operation, mask, bits, argument, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <class T>
T fetch_add(T* address, T value) {
  T old = *address;
  *address = old + value;
  return old;
}

}  // namespace cuda_shim

#define threadIdx (cuda_shim::place.thread)
#define blockIdx (cuda_shim::place.block)
#define blockDim (cuda_shim::place.block_size)
#define gridDim (cuda_shim::place.grid_size)

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int site = __builtin_LINE()) {
  return cuda_shim::exchange(cuda_shim::SHUFFLE, mask, value, lane, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int site = __builtin_LINE()) {
  return cuda_shim::exchange(cuda_shim::SHUFFLE_XOR, mask, value, lanes, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned lanes, int site = __builtin_LINE()) {
  return cuda_shim::exchange(cuda_shim::SHUFFLE_UP, mask, value, static_cast<int>(lanes), site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int site = __builtin_LINE()) {
  return cuda_shim::exchange(cuda_shim::SHUFFLE_DOWN, mask, value, static_cast<int>(lanes), site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, int site = __builtin_LINE()) {
  return static_cast<unsigned>(
      cuda_shim::collective(cuda_shim::BALLOT, mask, predicate != 0, 0, site));
}
inline int __any_sync(unsigned mask, int predicate, int site = __builtin_LINE()) {
  return static_cast<int>(cuda_shim::collective(cuda_shim::ANY, mask, predicate != 0, 0, site));
}
inline int __all_sync(unsigned mask, int predicate, int site = __builtin_LINE()) {
  return static_cast<int>(cuda_shim::collective(cuda_shim::ALL, mask, predicate != 0, 0, site));
}
inline void __syncwarp(unsigned mask = 0xffffffffu, int site = __builtin_LINE()) {
  cuda_shim::collective(cuda_shim::SYNC_WARP, mask, 0, 0, site);
}
inline void __syncthreads(int site = __builtin_LINE()) {
  cuda_shim::barrier(cuda_shim::SYNC, 0, site);
}
inline int __syncthreads_count(int predicate, int site = __builtin_LINE()) {
  return cuda_shim::barrier(cuda_shim::SYNC_COUNT, predicate != 0, site);
}
inline int __syncthreads_and(int predicate, int site = __builtin_LINE()) {
  return cuda_shim::barrier(cuda_shim::SYNC_AND, predicate != 0, site);
}
inline int __syncthreads_or(int predicate, int site = __builtin_LINE()) {
  return cuda_shim::barrier(cuda_shim::SYNC_OR, predicate != 0, site);
}
inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __clz(int x) {
  return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}
template <class T>
T __ldg(const T* address) {
  return *address;
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float __expf(float x) {
  return expf(x);
}
inline float __logf(float x) {
  return logf(x);
}
inline unsigned __float_as_uint(float x) {
  unsigned r;
  std::memcpy(&r, &x, sizeof r);
  return r;
}
inline float __uint_as_float(unsigned x) {
  float r;
  std::memcpy(&r, &x, sizeof r);
  return r;
}
inline int __float_as_int(float x) {
  return static_cast<int>(__float_as_uint(x));
}
inline float __int_as_float(int x) {
  return __uint_as_float(static_cast<unsigned>(x));
}
inline float atomicAdd(float* address, float value) {
  return cuda_shim::fetch_add(address, value);
}
inline double atomicAdd(double* address, double value) {
  return cuda_shim::fetch_add(address, value);
}
inline int atomicAdd(int* address, int value) {
  return cuda_shim::fetch_add(address, value);
}
inline unsigned atomicAdd(unsigned* address, unsigned value) {
  return cuda_shim::fetch_add(address, value);
}
inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long value) {
  return cuda_shim::fetch_add(address, value);
}
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}

// The runtime, for one device whose memory is the host's and whose streams are in step.
enum cudaError_t { cudaSuccess, cudaErrorMemoryAllocation };
enum cudaMemcpyKind { cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice, cudaMemcpyHostToDevice };
using cudaStream_t = void*;
using cudaEvent_t = void*;
constexpr unsigned cudaEventDefault = 0, cudaEventDisableTiming = 2;
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
inline const char* cudaGetErrorString(cudaError_t e) {
  return e == cudaSuccess ? "no error" : "out of memory";
}
inline cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  if (bytes) std::memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                                   cudaStream_t) {
  if (bytes) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** to, size_t bytes) {
  *to = std::malloc(bytes);
  return *to ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
// An event is a point in time.
using cudaShimInstant = std::chrono::steady_clock::time_point;
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new cudaShimInstant;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  *static_cast<cudaShimInstant*>(event) = std::chrono::steady_clock::now();
  return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return cudaSuccess;
}
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t first, cudaEvent_t last) {
  const std::chrono::duration<float, std::milli> between =
      *static_cast<cudaShimInstant*>(last) - *static_cast<cudaShimInstant*>(first);
  *milliseconds = between.count();
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete static_cast<cudaShimInstant*>(event);
  return cudaSuccess;
}
inline cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
// A GeForce.
enum cudaDeviceAttr { cudaDevAttrSingleToDoublePrecisionPerfRatio };
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 64;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) {
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return cudaSuccess;
}
