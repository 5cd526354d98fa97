// SPDX-License-Identifier: Apache-2.0
#include "memory_pool.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace iqgs {
namespace {

constexpr size_t HUGE_PAGE = size_t(2) << 20;
// A free block serves a request down to this part of its size.
constexpr double LEAST_USE = 0.5;

struct Block {
  void* memory;
  size_t bytes;
};

struct Pool {
  std::mutex lock;
  std::vector<Block> idle;  // least recently given first
  std::unordered_map<void*, size_t> lent;
  size_t idle_bytes = 0;
};

// Never destroyed: tensors may outlive the library's statics.
Pool& pool() {
  static Pool* const instance = new Pool;
  return *instance;
}

void* fresh_block(size_t bytes) {
  void* memory = std::aligned_alloc(HUGE_PAGE, bytes);
  if (!memory) throw std::bad_alloc();
#if defined(__linux__)
  madvise(memory, bytes, MADV_HUGEPAGE);  // advice: nothing depends on its being taken
#endif
  return memory;
}

// The smallest idle block that fits and is not much too large.
std::vector<Block>::iterator best_fit(Pool& p, size_t bytes) {
  auto best = p.idle.end();
  for (auto b = p.idle.begin(); b != p.idle.end(); ++b)
    if (b->bytes >= bytes && b->bytes * LEAST_USE <= bytes &&
        (best == p.idle.end() || b->bytes < best->bytes))
      best = b;
  return best;
}

}  // namespace

void* take_block(size_t bytes) {
  bytes = std::max((bytes + HUGE_PAGE - 1) / HUGE_PAGE, size_t(1)) * HUGE_PAGE;
  Pool& p = pool();
  std::lock_guard<std::mutex> guard(p.lock);
  auto found = best_fit(p, bytes);
  Block block = {nullptr, bytes};
  if (found != p.idle.end()) {
    block = *found;
    p.idle.erase(found);
    p.idle_bytes -= block.bytes;
  } else {
    block.memory = fresh_block(bytes);
  }
  p.lent[block.memory] = block.bytes;
  return block.memory;
}

void give_block(void* memory) {
  Pool& p = pool();
  std::lock_guard<std::mutex> guard(p.lock);
  auto lent = p.lent.find(memory);
  if (lent == p.lent.end()) return;
  p.idle.push_back({memory, lent->second});
  p.idle_bytes += lent->second;
  p.lent.erase(lent);
  while (p.idle_bytes > POOL_BYTES) {
    p.idle_bytes -= p.idle.front().bytes;
    std::free(p.idle.front().memory);
    p.idle.erase(p.idle.begin());
  }
}

}  // namespace iqgs
