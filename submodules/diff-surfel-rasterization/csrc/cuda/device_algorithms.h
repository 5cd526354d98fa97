// SPDX-License-Identifier: Apache-2.0
// Scans and sorts on the device. Queued on `stream`; `temp` is `bytes` of the caller's device
// memory, at least what scan_bytes or sort_bytes says, and is free again once the stream is past.
// Compiled in one file, so that cub is paid for once. Under the host shim these are std algorithms.
#pragma once

#include <cstddef>
#include <cstdint>

namespace iqgs {
namespace cuda {

// out[i] = in[0] + ... + in[i - 1], i < n. May be done in place.
size_t scan_bytes(int64_t n);
void exclusive_scan(void* temp, size_t bytes, const int64_t* in, int64_t* out, int64_t n,
                    void* stream);

// Stable, ascending by the lowest `bits` bits of the keys; the inputs are left as they are and
// must not overlap the outputs.
size_t sort_bytes(int64_t n);
void sort_pairs(void* temp, size_t bytes, const uint32_t* keys_in, uint32_t* keys_out,
                const uint32_t* values_in, uint32_t* values_out, int64_t n, int bits, void* stream);

// The same with values of eight bytes.
size_t sort_bytes_wide(int64_t n);
void sort_pairs(void* temp, size_t bytes, const uint32_t* keys_in, uint32_t* keys_out,
                const uint64_t* values_in, uint64_t* values_out, int64_t n, int bits, void* stream);

}  // namespace cuda
}  // namespace iqgs
