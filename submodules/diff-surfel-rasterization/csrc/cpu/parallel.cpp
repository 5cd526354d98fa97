// SPDX-License-Identifier: Apache-2.0
#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "memory_pool.h"

namespace iqgs {

Arena::~Arena() {
  if (memory) give_block(memory);
}

void* Arena::reserve(size_t bytes) {
  if (bytes > capacity) {
    if (memory) give_block(memory);
    memory = nullptr;
    capacity = 0;
    const size_t wanted = bytes + bytes / 4;
    memory = take_block(wanted);
    capacity = wanted;
  }
  return memory;
}

// Threads are started per call: tens of microseconds, and nothing outlives a fork.
void parallel_for(int64_t items, int64_t grain, int threads,
                  const std::function<void(int64_t, Arena&)>& work) {
  const int64_t chunks = (items + grain - 1) / grain;
  const int workers = static_cast<int>(std::min<int64_t>(std::max(threads, 1), chunks));
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_lock;
  auto run = [&] {
    try {
      Arena arena;
      for (int64_t c = next++; c < chunks; c = next++)
        for (int64_t i = c * grain; i < std::min(items, (c + 1) * grain); ++i) work(i, arena);
    } catch (...) {
      std::lock_guard<std::mutex> guard(failure_lock);
      if (!failure) failure = std::current_exception();
      next = chunks;
    }
  };
  std::vector<std::thread> team;
  for (int t = 1; t < workers; ++t) {
    try {
      team.emplace_back(run);
    } catch (const std::system_error&) {
      break;  // the system grants no more threads: the others do the work
    }
  }
  run();
  for (std::thread& t : team) t.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace iqgs
