// SPDX-License-Identifier: Apache-2.0
// Reads one number back while the device goes on working. Page-locked memory and events are kept
// for the next call: making them stops the device.
#include <mutex>
#include <vector>

#include "kernels.h"
#include "launch.h"

namespace iqgs {
namespace cuda {
namespace {

struct Slot {
  int device;
  int64_t* host;
  cudaEvent_t event;
};

struct Slots {
  std::mutex lock;
  std::vector<Slot> idle;
};

// Never destroyed: the driver may be gone before the library's statics.
Slots& slots() {
  static Slots* const instance = new Slots;
  return *instance;
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "reading the device");
  return device;
}

Slot take_slot(int device) {
  Slots& s = slots();
  {
    std::lock_guard<std::mutex> guard(s.lock);
    for (size_t i = 0; i < s.idle.size(); ++i) {
      if (s.idle[i].device != device) continue;
      const Slot found = s.idle[i];
      s.idle.erase(s.idle.begin() + static_cast<std::ptrdiff_t>(i));
      return found;
    }
  }
  Slot fresh = {device, nullptr, {}};
  check(cudaMallocHost(reinterpret_cast<void**>(&fresh.host), sizeof(int64_t)),
        "allocating page-locked memory");
  check(cudaEventCreateWithFlags(&fresh.event, cudaEventDisableTiming), "creating an event");
  return fresh;
}

}  // namespace

void use_device(int device) {
  check(cudaSetDevice(device), "choosing the device");
}

PendingCount::PendingCount(const int64_t* device_value, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const Slot slot = take_slot(current_device());
  host_ = slot.host;
  event_ = slot.event;
  check(cudaMemcpyAsync(host_, device_value, sizeof(int64_t), cudaMemcpyDeviceToHost, s),
        "reading a count");
  check(cudaEventRecord(slot.event, s), "reading a count");
}

int64_t PendingCount::take() {
  check(cudaEventSynchronize(static_cast<cudaEvent_t>(event_)), "reading a count");
  arrived_ = true;
  return *host_;
}

PendingCount::~PendingCount() {
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return;
  // Where nobody took it, the copy may be on its way: the memory must not serve another yet.
  if (!arrived_ && cudaEventSynchronize(static_cast<cudaEvent_t>(event_)) != cudaSuccess) return;
  Slots& s = slots();
  std::lock_guard<std::mutex> guard(s.lock);
  s.idle.push_back({device, host_, static_cast<cudaEvent_t>(event_)});
}

}  // namespace cuda
}  // namespace iqgs
