// SPDX-License-Identifier: Apache-2.0
// How long each kernel takes: the time between two events of its stream, where somebody asked for it.
// Where nobody did, a launch reads one flag more. An event before a kernel passes as soon as the stream
// comes to it: what the host needs to launch a kernel on an idle device counts as the kernel's.
#pragma once

#include <atomic>
#include <string>
#include <vector>

namespace iqgs {
namespace cuda {

struct KernelTimes {
  std::string name;
  std::vector<float> milliseconds;  // one a launch, in their order
};

// From now on, or no longer.
void time_kernels(bool wanted);
// Everything since the last call, by name; waits for what is still running.
std::vector<KernelTimes> take_kernel_times();

extern std::atomic<bool> kernels_are_timed;

// Times what is queued on `stream` while it lives. `name` must outlive the process.
class Timed {
 public:
  Timed(const char* name, void* stream) : name_(name), stream_(stream) {
    if (kernels_are_timed.load(std::memory_order_relaxed)) begin();
  }
  ~Timed() {
    if (first_) end();
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  void begin();
  void end();
  const char* name_;
  void* stream_;
  void *first_ = nullptr, *last_ = nullptr;  // events
  int device_ = 0;
};

}  // namespace cuda
}  // namespace iqgs
