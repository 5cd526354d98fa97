// SPDX-License-Identifier: Apache-2.0
#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif
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

#if defined(__linux__)
int processor() {
  return sched_getcpu();
}

// Keeps `thread` off processor `taken`, where another one is allowed.
void keep_off(std::thread::native_handle_type thread, int taken) {
  cpu_set_t allowed;
  if (taken < 0 || sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  CPU_CLR(taken, &allowed);
  if (CPU_COUNT(&allowed) > 0) pthread_setaffinity_np(thread, sizeof(allowed), &allowed);
}
#else
int processor() {
  return -1;
}
void keep_off(std::thread::native_handle_type, int) {}
#endif

struct Helper {
  std::thread::native_handle_type thread;
  int kept_off;  // the processor that it may not use
};

// Threads that sleep between jobs: waking one costs a fraction of starting one, and a frame has
// about ten jobs.
class Team {
 public:
  // Runs `job` on the calling thread and on up to `helpers` others at once.
  void run(int helpers, const Job& job) {
    {
      std::lock_guard<std::mutex> guard(lock_);
      grow(helpers);
      // A woken thread often lands on the processor of the one that woke it and waits there for
      // milliseconds, while another stands idle.
      const int mine = processor();
      for (Helper& h : helpers_)
        if (std::exchange(h.kept_off, mine) != mine) keep_off(h.thread, mine);
      job_ = &job;
      seats_ = std::min(helpers, static_cast<int>(helpers_.size()));
    }
    for (int t = 0; t < helpers; ++t) wake_.notify_one();
    job();
    std::unique_lock<std::mutex> guard(lock_);
    seats_ = 0;  // who has not begun yet need not
    done_.wait(guard, [this] { return busy_ == 0; });
  }

  std::mutex& owner() { return owner_; }

 private:
  void grow(int helpers) {
    while (static_cast<int>(helpers_.size()) < helpers) {
      try {
        helpers_.reserve(helpers_.size() + 1);  // a thread that runs must find its place
        std::thread thread([this] { serve(); });
        helpers_.push_back({thread.native_handle(), -1});
        thread.detach();
      } catch (const std::system_error&) {
        break;  // the system grants no more threads: the others do the work
      } catch (const std::bad_alloc&) {
        break;
      }
    }
  }

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
  std::vector<Helper> helpers_;
  int seats_ = 0, busy_ = 0;
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
