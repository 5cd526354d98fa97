// SPDX-License-Identifier: Apache-2.0
#include "device_algorithms.h"

#include "launch.h"

#if defined(IQGS_HOST_SHIM)
#include <algorithm>
#include <numeric>
#include <vector>
#else
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#endif

namespace iqgs {
namespace cuda {
namespace {

#if defined(IQGS_HOST_SHIM)

// Not zero, so that callers allocate; checked, so that a caller who mixes up the sizes is caught.
size_t temporary_bytes(int64_t n, size_t item) {
  return static_cast<size_t>(n) * item + 1;
}

void require_bytes(const void* temp, size_t bytes, size_t needed) {
  if (!temp || bytes < needed)
    throw std::runtime_error("iqgs CUDA: a scan or sort got too little temporary memory");
}

template <class Value>
void sort_on_host(void* temp, size_t bytes, const uint32_t* keys_in, uint32_t* keys_out,
                  const Value* values_in, Value* values_out, int64_t n, int bits) {
  require_bytes(temp, bytes, temporary_bytes(n, sizeof(Value)));
  const uint32_t mask = bits < 32 ? (uint32_t(1) << bits) - 1 : ~uint32_t(0);
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t(0));
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return (keys_in[a] & mask) < (keys_in[b] & mask); });
  for (int64_t i = 0; i < n; ++i) {
    keys_out[i] = keys_in[order[static_cast<size_t>(i)]];
    values_out[i] = values_in[order[static_cast<size_t>(i)]];
  }
}

#else

template <class Value>
size_t sort_bytes_of(int64_t n) {
  size_t bytes = 0;
  check(cub::DeviceRadixSort::SortPairs(
            nullptr, bytes, static_cast<const uint32_t*>(nullptr), static_cast<uint32_t*>(nullptr),
            static_cast<const Value*>(nullptr), static_cast<Value*>(nullptr), n),
        "sort_bytes");
  return bytes;
}

template <class Value>
void sort_on_device(void* temp, size_t bytes, const uint32_t* keys_in, uint32_t* keys_out,
                    const Value* values_in, Value* values_out, int64_t n, int bits, void* stream) {
  check(cub::DeviceRadixSort::SortPairs(temp, bytes, keys_in, keys_out, values_in, values_out, n, 0,
                                        bits, static_cast<cudaStream_t>(stream)),
        "sort_pairs");
}

#endif

}  // namespace

#if defined(IQGS_HOST_SHIM)

size_t scan_bytes(int64_t n) {
  return temporary_bytes(n, 1);
}

void exclusive_scan(void* temp, size_t bytes, const int64_t* in, int64_t* out, int64_t n,
                    void* stream) {
  if (n == 0) return;
  const Timed timed("exclusive_scan", stream);
  require_bytes(temp, bytes, scan_bytes(n));
  int64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t value = in[i];
    out[i] = sum;
    sum += value;
  }
}

size_t sort_bytes(int64_t n) {
  return temporary_bytes(n, sizeof(uint32_t));
}

size_t sort_bytes_wide(int64_t n) {
  return temporary_bytes(n, sizeof(uint64_t));
}

void sort_pairs(void* temp, size_t bytes, const uint32_t* keys_in, uint32_t* keys_out,
                const uint32_t* values_in, uint32_t* values_out, int64_t n, int bits,
                void* stream) {
  const Timed timed("sort_pairs", stream);
  if (n) sort_on_host(temp, bytes, keys_in, keys_out, values_in, values_out, n, bits);
}

void sort_pairs(void* temp, size_t bytes, const uint32_t* keys_in, uint32_t* keys_out,
                const uint64_t* values_in, uint64_t* values_out, int64_t n, int bits,
                void* stream) {
  const Timed timed("sort_pairs_wide", stream);
  if (n) sort_on_host(temp, bytes, keys_in, keys_out, values_in, values_out, n, bits);
}

#else

size_t scan_bytes(int64_t n) {
  size_t bytes = 0;
  check(cub::DeviceScan::ExclusiveSum(nullptr, bytes, static_cast<const int64_t*>(nullptr),
                                      static_cast<int64_t*>(nullptr), n),
        "scan_bytes");
  return bytes;
}

void exclusive_scan(void* temp, size_t bytes, const int64_t* in, int64_t* out, int64_t n,
                    void* stream) {
  if (n == 0) return;
  const Timed timed("exclusive_scan", stream);
  check(cub::DeviceScan::ExclusiveSum(temp, bytes, in, out, n, static_cast<cudaStream_t>(stream)),
        "exclusive_scan");
}

size_t sort_bytes(int64_t n) {
  return sort_bytes_of<uint32_t>(n);
}

size_t sort_bytes_wide(int64_t n) {
  return sort_bytes_of<uint64_t>(n);
}

void sort_pairs(void* temp, size_t bytes, const uint32_t* keys_in, uint32_t* keys_out,
                const uint32_t* values_in, uint32_t* values_out, int64_t n, int bits,
                void* stream) {
  const Timed timed("sort_pairs", stream);
  if (n) sort_on_device(temp, bytes, keys_in, keys_out, values_in, values_out, n, bits, stream);
}

void sort_pairs(void* temp, size_t bytes, const uint32_t* keys_in, uint32_t* keys_out,
                const uint64_t* values_in, uint64_t* values_out, int64_t n, int bits,
                void* stream) {
  const Timed timed("sort_pairs_wide", stream);
  if (n) sort_on_device(temp, bytes, keys_in, keys_out, values_in, values_out, n, bits, stream);
}

#endif

}  // namespace cuda
}  // namespace iqgs
