// SPDX-License-Identifier: Apache-2.0
// Events are kept for the next launch: making them takes the host longer than a launch.
#include "timing.h"

#include <map>
#include <mutex>

#include "launch.h"

namespace iqgs {
namespace cuda {

std::atomic<bool> kernels_are_timed{false};

namespace {

struct Span {
  const char* name;
  cudaEvent_t first, last;
  int device;
};

struct Spans {
  std::mutex lock;
  std::vector<Span> idle;     // pairs of events without a name
  std::vector<Span> running;  // in the order of their launches
  std::map<std::string, std::vector<float>> times;
};

constexpr size_t MOST_RUNNING = 4096;  // then their times are read

// Never destroyed: the driver may be gone before the library's statics.
Spans& spans() {
  static Spans* const instance = new Spans;
  return *instance;
}

// Makes the events' device current for a while.
struct OnDevice {
  int before = 0;
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before), "reading the device");
    check(cudaSetDevice(device), "choosing the device");
  }
  ~OnDevice() { cudaSetDevice(before); }
};

// With the lock held.
void read_running(Spans& s) {
  std::vector<Span> done;
  done.swap(s.running);
  for (const Span& span : done) {
    const OnDevice on(span.device);
    float milliseconds = 0.0f;
    check(cudaEventSynchronize(span.last), "timing a kernel");
    check(cudaEventElapsedTime(&milliseconds, span.first, span.last), "timing a kernel");
    s.times[span.name].push_back(milliseconds);
    s.idle.push_back(span);
  }
}

// A pair of events of this device, the oldest first: with the lock held.
Span take_span(Spans& s, const char* name, int device) {
  for (size_t i = 0; i < s.idle.size(); ++i) {
    if (s.idle[i].device != device) continue;
    Span found = s.idle[i];
    s.idle[i] = s.idle.back();
    s.idle.pop_back();
    found.name = name;
    return found;
  }
  Span fresh = {name, {}, {}, device};
  check(cudaEventCreateWithFlags(&fresh.first, cudaEventDefault), "creating an event");
  check(cudaEventCreateWithFlags(&fresh.last, cudaEventDefault), "creating an event");
  return fresh;
}

}  // namespace

void time_kernels(bool wanted) {
  kernels_are_timed.store(wanted, std::memory_order_relaxed);
}

// Not while a graph is captured: its events have no time.
void Timed::begin() {
  const auto stream = static_cast<cudaStream_t>(stream_);
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &capture), "timing a kernel");
  if (capture != cudaStreamCaptureStatusNone) return;
  check(cudaGetDevice(&device_), "reading the device");
  Spans& s = spans();
  std::lock_guard<std::mutex> guard(s.lock);
  if (s.running.size() >= MOST_RUNNING) read_running(s);
  const Span span = take_span(s, name_, device_);
  check(cudaEventRecord(span.first, stream), "timing a kernel");
  first_ = span.first;
  last_ = span.last;
}

// A launch that failed throws while this is called: it has no time, and its events serve the next.
void Timed::end() {
  Span span = {name_, static_cast<cudaEvent_t>(first_), static_cast<cudaEvent_t>(last_), device_};
  const bool recorded =
      cudaEventRecord(span.last, static_cast<cudaStream_t>(stream_)) == cudaSuccess;
  Spans& s = spans();
  std::lock_guard<std::mutex> guard(s.lock);
  (recorded ? s.running : s.idle).push_back(span);
}

std::vector<KernelTimes> take_kernel_times() {
  Spans& s = spans();
  std::lock_guard<std::mutex> guard(s.lock);
  read_running(s);
  std::vector<KernelTimes> found;
  for (const auto& entry : s.times) found.push_back({entry.first, entry.second});
  s.times.clear();
  return found;
}

}  // namespace cuda
}  // namespace iqgs
