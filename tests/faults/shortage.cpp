// SPDX-License-Identifier: Apache-2.0
// Memory and threads of the CPU backend where every allocation in turn is the first that fails: the
// caller gets an exception or the work is done; the process does not end.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include "cpu/memory_pool.h"
#include "cpu/parallel.h"

static std::atomic<long> allowed{1L << 60};  // allocations before the first that fails

void* operator new(size_t bytes) {
  if (allowed-- <= 0) throw std::bad_alloc();
  return std::malloc(bytes);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

constexpr size_t MIB = size_t(1) << 20;

// Takes and gives back more and more blocks at a time; returns how many takes failed.
static int pool_rounds() {
  int failed = 0;
  for (int most = 1; most < 12; ++most) {
    void* blocks[12] = {};
    for (int i = 0; i < most; ++i) try {
        blocks[i] = iqgs::take_block((2 + 2 * i) * MIB);
      } catch (const std::bad_alloc&) {
        ++failed;
      }
    for (void* block : blocks)
      if (block) iqgs::give_block(block);
  }
  return failed;
}

// Twelve items on four threads; whether all were done.
static bool work_is_done() {
  std::atomic<int> done{0};
  try {
    iqgs::parallel_for(12, 1, 4, [&](int64_t, iqgs::Arena& arena) {
      arena.reserve(1000);
      ++done;
    });
  } catch (const std::bad_alloc&) {
    return false;
  }
  return done == 12;
}

// Each in a process of its own, whose pool and threads are new.
static int fail_in_turn(bool threads) {
  int refused = 0, n = 0;
  for (bool last = false; !last && n < 1000; ++n) {
    const pid_t child = fork();
    if (!child) {
      allowed = n;
      const bool fine = threads ? work_is_done() : pool_rounds() == 0;
      const bool all = allowed > 0;  // none was refused, here or where it does not matter
      allowed = 1L << 60;
      if (!work_is_done() || pool_rounds() > 0) _exit(4);  // it does not recover
      _exit(fine ? (all ? 0 : 2) : 3);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 4)
      return std::printf("allocation %d: ended with %d\n", n, status), 1;
    refused += WEXITSTATUS(status) == 3;
    last = WEXITSTATUS(status) == 0;
  }
  std::printf("%d of %d refused\n", refused, n);
  return 0;
}

// Blocks that lie idle are given up for one that would not fit beside them.
static int idle_is_given_up() {
  std::vector<void*> blocks;
  for (int i = 0; i < 8; ++i) blocks.push_back(iqgs::take_block(64 * MIB));
  for (void* block : blocks) iqgs::give_block(block);
  FILE* file = std::fopen("/proc/self/statm", "r");
  unsigned long pages = 0;
  if (!file || std::fscanf(file, "%lu", &pages) != 1) return 2;
  const rlim_t most = pages * 4096 + 16 * MIB;
  const rlimit limit = {most, most};
  setrlimit(RLIMIT_AS, &limit);
  try {
    iqgs::give_block(iqgs::take_block(192 * MIB));
  } catch (const std::bad_alloc&) {
    return std::printf("no room beside what lies idle\n"), 1;
  }
  return 0;
}

int main(int, char** words) {
  if (words[1][0] == 'i') return idle_is_given_up();
  return fail_in_turn(words[1][0] == 't');
}
