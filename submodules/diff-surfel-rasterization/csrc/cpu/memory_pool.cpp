// SPDX-License-Identifier: Apache-2.0
#include "memory_pool.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
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

using Fresh = std::unique_ptr<void, decltype(&std::free)>;

// Null where the system grants no more.
Fresh fresh_block(size_t bytes) {
  Fresh block(std::aligned_alloc(HUGE_PAGE, bytes), std::free);
#if defined(__linux__)
  if (block) madvise(block.get(), bytes, MADV_HUGEPAGE);  // advice: nothing depends on it
#endif
  return block;
}

void free_idle(Pool& p, size_t most) {
  while (p.idle_bytes > most) {
    p.idle_bytes -= p.idle.front().bytes;
    std::free(p.idle.front().memory);
    p.idle.erase(p.idle.begin());
  }
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
  // Room for every block that there is: destructors give them back, which must not fail.
  const size_t blocks = p.idle.size() + p.lent.size() + 1;
  if (p.idle.capacity() < blocks) p.idle.reserve(2 * blocks);
  const auto found = best_fit(p, bytes);
  if (found != p.idle.end()) {
    const Block block = *found;
    p.lent[block.memory] = block.bytes;
    p.idle.erase(found);
    p.idle_bytes -= block.bytes;
    return block.memory;
  }
  Fresh fresh = fresh_block(bytes);
  if (!fresh) {  // what lies idle may be what is missing
    free_idle(p, 0);
    fresh = fresh_block(bytes);
  }
  if (!fresh) throw std::bad_alloc();
  p.lent[fresh.get()] = bytes;
  return fresh.release();
}

void give_block(void* memory) {
  Pool& p = pool();
  std::lock_guard<std::mutex> guard(p.lock);
  auto lent = p.lent.find(memory);
  if (lent == p.lent.end()) return;
  p.idle.push_back({memory, lent->second});
  p.idle_bytes += lent->second;
  p.lent.erase(lent);
  free_idle(p, POOL_BYTES);
}

}  // namespace iqgs
