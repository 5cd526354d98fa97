// SPDX-License-Identifier: Apache-2.0
// What the operators of the CUDA backend do before the pixels. No CUDA header: kernels are called
// through plain functions, memory comes from torch's allocator.
#pragma once

#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <atomic>

#include "../cuda/kernels.h"
#include "inputs.h"

namespace iqgs {
namespace torch_binding {

// Indices into the saved state: that of the CPU, then what the pixels keep.
enum CudaState { TOTALS = STATES, POSITIONS, CUDA_STATES };

// Makes the tensors' device current, for torch and for the kernels' own runtime.
struct OnDevice {
  c10::DeviceGuard guard;
  void* stream;
  OnDevice(at::Device device, int64_t stream_address)
      : guard(device), stream(reinterpret_cast<void*>(stream_address)) {
    cuda::use_device(device.has_index() ? device.index() : 0);
  }
};

inline Tensor bytes(size_t count, at::Device device) {
  return uninitialised({static_cast<int64_t>(count)}, at::kByte, device);
}

inline cuda::PixelTotals pixel_totals(const std::vector<Tensor>& state) {
  const int64_t plane = state[TOTALS].numel() / 3;
  float* f = data<float>(state[TOTALS]);
  int32_t* i = data<int32_t>(state[POSITIONS]);
  return {f, f + plane, f + 2 * plane, i, i + plane};
}

constexpr int64_t MOST_PAIRS = (int64_t(1) << 31) - 1;  // that positions can count

// Room for pairs that the next view will probably need: what recent views needed and a margin.
class PairEstimate {
 public:
  int64_t capacity(int64_t splats, int64_t tiles) const {
    const int64_t seen = recent_.load(), likely = (seen ? seen + seen / 4 : 4 * splats) + 4096;
    return std::max(std::min({likely, splats * tiles, MOST_PAIRS}), int64_t(1));
  }
  void saw(int64_t pairs) {
    const int64_t before = recent_.load();
    recent_.store(std::max(pairs, before - before / 64));
  }

 private:
  std::atomic<int64_t> recent_{0};
};

inline PairEstimate& pair_estimate() {
  static PairEstimate estimate;  // one for all devices: it only sizes buffers
  return estimate;
}

// Projection and tile lists, then `blend(params)`, which reads them. The number of pairs is known
// on the device long before it is known here, so everything is queued for an estimate; where that
// was too small the lists are made again with enough room.
template <class Blend>
std::vector<Tensor> prepare_and_blend(const Inputs& in, const View& view, Tensor& radii,
                                      void* stream, const Blend& blend) {
  const at::Device device = in.device();
  const int64_t n = in.count(),
                tiles = int64_t(tile_grid(view.camera).x) * tile_grid(view.camera).y;
  std::vector<Tensor> state(CUDA_STATES);
  state[RECORDS] = floats({n, RECORD_FLOATS}, device);
  state[FOOTPRINTS] = floats({n, FOOTPRINT_FLOATS}, device);
  state[SHADES] = floats({n, SHADE_FLOATS}, device);
  radii = ints({n}, device);
  Tensor boxes = ints({n, 2}, device), keys = ints({n}, device);
  Tensor counts = uninitialised({n + 1}, at::kLong, device);
  cuda::project_splats(project_params(in, view, state, boxes, radii), data<uint32_t>(keys),
                       data<int64_t>(counts), stream);
  // The rest of the memory while the device works.
  const int64_t h = view.camera.height, w = view.camera.width;
  state[OFFSET] = ints({n + 1}, device);
  state[START] = ints({tiles + 1}, device);
  state[USED] = ints({tiles}, device);
  state[TOTALS] = floats({3, h, w}, device);
  state[POSITIONS] = ints({2, h, w}, device);
  Tensor ordered = bytes(cuda::order_bytes(n), device);
  const cuda::BinParams bin = {tile_grid(view.camera),
                               n,
                               data<TileBox>(boxes),
                               data<uint32_t>(keys),
                               data<int64_t>(counts),
                               data<int32_t>(state[OFFSET]),
                               data<SplatRecord>(state[RECORDS]),
                               data<Footprint>(state[FOOTPRINTS]),
                               view.camera.near};
  cuda::PendingCount pending(cuda::order_splats(bin, data<void>(ordered), stream), stream);
  for (int64_t capacity = pair_estimate().capacity(n, tiles);;) {
    state[SPLAT] = ints({capacity}, device);
    state[ROW] = ints({capacity}, device);
    state[MASK] = ints({capacity}, device);
    Tensor working = bytes(cuda::bin_bytes(capacity), device);
    cuda::bin_splats(bin, data<void>(ordered), capacity, data<void>(working),
                     {data<int32_t>(state[START]), data<int32_t>(state[SPLAT]),
                      data<int32_t>(state[ROW]), data<uint32_t>(state[MASK])},
                     stream);
    blend(blend_params(in, view, state), pixel_totals(state));
    const int64_t pairs = pending.take();
    TORCH_CHECK(pairs <= MOST_PAIRS,
                "rasterize: more than 2^31 (tile, splat) pairs; are the scales far too large?");
    pair_estimate().saw(pairs);
    if (pairs <= capacity) {
      for (int i : {SPLAT, ROW, MASK}) state[i] = state[i].narrow(0, 0, pairs);
      return state;
    }
    capacity = pairs;
  }
}

}  // namespace torch_binding
}  // namespace iqgs
