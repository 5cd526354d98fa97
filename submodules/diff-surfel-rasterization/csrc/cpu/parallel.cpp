// SPDX-License-Identifier: Apache-2.0
#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

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

namespace {

using Job = std::function<void()>;

// Threads that sleep between jobs: waking one costs a fraction of starting one, and a frame has
// about ten jobs.
class Team {
 public:
  // Runs `job` on the calling thread and on up to `helpers` others at once.
  void run(int helpers, const Job& job) {
    {
      std::lock_guard<std::mutex> guard(lock_);
      while (size_ < helpers) {
        try {
          std::thread([this] { serve(); }).detach();
        } catch (const std::system_error&) {
          break;  // the system grants no more threads: the others do the work
        }
        ++size_;
      }
      job_ = &job;
      seats_ = std::min(helpers, size_);
    }
    for (int t = 0; t < helpers; ++t) wake_.notify_one();
    job();
    std::unique_lock<std::mutex> guard(lock_);
    seats_ = 0;  // who has not begun yet need not
    done_.wait(guard, [this] { return busy_ == 0; });
  }

  std::mutex& owner() { return owner_; }

 private:
  void serve() {
    std::unique_lock<std::mutex> guard(lock_);
    for (;;) {
      wake_.wait(guard, [this] { return seats_ > 0; });
      --seats_;
      ++busy_;
      const Job& job = *job_;
      guard.unlock();
      job();
      guard.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::mutex owner_;  // held by whoever runs a job
  std::mutex lock_;
  std::condition_variable wake_, done_;
  const Job* job_ = nullptr;
  int size_ = 0, seats_ = 0, busy_ = 0;
};

int64_t process() {
#if defined(__unix__) || defined(__APPLE__)
  return getpid();
#else
  return 0;
#endif
}

// The team of this process: threads do not survive a fork, so a child raises its own. Never
// destroyed, its threads sleep until the process ends.
Team& team() {
  static std::mutex lock;
  static Team* current = nullptr;
  static int64_t owner = -1;
  std::lock_guard<std::mutex> guard(lock);
  if (!current || owner != process()) {
    current = new Team;
    owner = process();
  }
  return *current;
}

}  // namespace

void parallel_for(int64_t items, int64_t grain, int threads,
                  const std::function<void(int64_t, Arena&)>& work) {
  const int64_t chunks = (items + grain - 1) / grain;
  const int workers = static_cast<int>(std::min<int64_t>(std::max(threads, 1), chunks));
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_lock;
  const Job run = [&] {
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
  if (workers > 1) {
    Team& all = team();
    std::unique_lock<std::mutex> mine(all.owner(), std::try_to_lock);
    // Two callers at once: the second one works alone.
    if (mine)
      all.run(workers - 1, run);
    else
      run();
  } else if (chunks > 0) {
    run();
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace iqgs
