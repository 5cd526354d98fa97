// SPDX-License-Identifier: Apache-2.0
// The scheduler of the shim: fibers, warps and barriers of one block at a time.
#include "cuda_shim.h"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__x86_64__)
// Saves the callee's registers on the running stack, then goes on with another one.
extern "C" void cuda_shim_switch(void** from, void* to);
__asm__(R"(
.text
.globl cuda_shim_switch
.hidden cuda_shim_switch
cuda_shim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
#else
#include <ucontext.h>
#endif

namespace cuda_shim {

Place place;

namespace {

constexpr int WARP = 32;
constexpr size_t STACK_BYTES = size_t(128) << 10;
constexpr size_t MOST_THREADS = 1024;

enum Status { RUNNABLE, WAITS_FOR_WARP, WAITS_FOR_BLOCK, DONE };

struct Fiber {
  Status status;
  Operation operation;
  unsigned mask;
  uint64_t value;
  int argument;
  int site;  // line of the call
  Place place;
#if defined(__x86_64__)
  void* stack_pointer;
#else
  ucontext_t context;
#endif
};

bool reversed = false;
const char* kernel_name = "";
const std::function<void()>* kernel_body = nullptr;
std::vector<Fiber> fibers;
int running = 0;
std::unique_ptr<char[]> stacks;
std::vector<char> shared_memory;

#if defined(__x86_64__)
void* scheduler_stack;
void to_scheduler() {
  cuda_shim_switch(&fibers[running].stack_pointer, scheduler_stack);
}
void to_fiber(int i) {
  running = i;
  place = fibers[i].place;
  cuda_shim_switch(&scheduler_stack, fibers[i].stack_pointer);
}
#else
ucontext_t scheduler_context;
void to_scheduler() {
  swapcontext(&fibers[running].context, &scheduler_context);
}
void to_fiber(int i) {
  running = i;
  place = fibers[i].place;
  swapcontext(&scheduler_context, &fibers[i].context);
}
#endif

void fiber_main() {
  (*kernel_body)();
  fibers[running].status = DONE;
  to_scheduler();
}

void start_fiber(int i) {
  char* top = stacks.get() + STACK_BYTES * (static_cast<size_t>(i) + 1);
#if defined(__x86_64__)
  // Six registers, the entry, and one word so that the stack is aligned as after a call.
  void** at = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15)) - 1;
  *--at = reinterpret_cast<void*>(&fiber_main);
  for (int k = 0; k < 6; ++k) *--at = nullptr;
  fibers[i].stack_pointer = at;
#else
  getcontext(&fibers[i].context);
  fibers[i].context.uc_stack.ss_sp = top - STACK_BYTES;
  fibers[i].context.uc_stack.ss_size = STACK_BYTES;
  fibers[i].context.uc_link = nullptr;
  makecontext(&fibers[i].context, fiber_main, 0);
#endif
}

[[noreturn]] void fault(const std::string& what) {
  throw std::runtime_error(std::string("cuda shim: ") + kernel_name + ": " + what);
}

uint64_t result_for(const std::vector<Fiber*>& lanes, const Fiber& f, int lane) {
  int source = lane;
  unsigned votes = 0;
  for (int i = 0; i < WARP; ++i)
    if ((f.mask >> i) & 1u) votes |= static_cast<unsigned>(lanes[i]->value != 0) << i;
  switch (f.operation) {
    case BALLOT:
      return votes;
    case ANY:
      return votes != 0;
    case ALL:
      return votes == f.mask;
    case SYNC_WARP:
      return 0;
    case SHUFFLE:
      source = f.argument & (WARP - 1);
      break;
    case SHUFFLE_XOR:
      source = lane ^ f.argument;
      break;
    case SHUFFLE_UP:
      source = lane - f.argument < 0 ? lane : lane - f.argument;
      break;
    case SHUFFLE_DOWN:
      source = lane + f.argument >= WARP ? lane : lane + f.argument;
      break;
    default:
      fault("a barrier is no collective");
  }
  if (source >= WARP || !((f.mask >> source) & 1u))
    fault("a shuffle reads lane " + std::to_string(source) + ", which takes no part in it");
  return lanes[source]->value;
}

// Completes one collective of the warp if all its lanes have arrived.
bool complete_collective(int first) {
  std::vector<Fiber*> lanes(WARP, nullptr);
  const int count = std::min<int>(WARP, static_cast<int>(fibers.size()) - first);
  for (int i = 0; i < count; ++i) lanes[i] = &fibers[first + i];
  for (int i = 0; i < count; ++i) {
    const Fiber& leader = *lanes[i];
    if (leader.status != WAITS_FOR_WARP) continue;
    if (!((leader.mask >> i) & 1u)) fault("a lane calls a collective whose mask leaves it out");
    bool complete = true;
    for (int j = 0; j < WARP && complete; ++j) {
      if (!((leader.mask >> j) & 1u)) continue;
      if (j >= count || lanes[j]->status == DONE)
        fault("lane " + std::to_string(j) + " has left, but a collective waits for it");
      complete = lanes[j]->status == WAITS_FOR_WARP && lanes[j]->operation == leader.operation &&
                 lanes[j]->mask == leader.mask && lanes[j]->site == leader.site;
    }
    if (!complete) continue;
    uint64_t results[WARP];
    const unsigned mask = leader.mask;
    for (int j = 0; j < count; ++j)
      if ((mask >> j) & 1u) results[j] = result_for(lanes, *lanes[j], j);
    for (int j = 0; j < count; ++j) {
      if (!((mask >> j) & 1u)) continue;
      lanes[j]->value = results[j];
      lanes[j]->status = RUNNABLE;
    }
    return true;
  }
  return false;
}

// Runs the warp until none of its lanes can go on; whether any did.
bool run_warp(int first) {
  const int count = std::min<int>(WARP, static_cast<int>(fibers.size()) - first);
  bool any = false;
  for (bool again = true; again;) {
    again = false;
    for (int k = 0; k < count; ++k) {
      const int i = first + (reversed ? count - 1 - k : k);
      if (fibers[i].status != RUNNABLE) continue;
      to_fiber(i);
      again = any = true;
    }
    if (complete_collective(first)) again = any = true;
  }
  return any;
}

// Opens the barrier if the whole block waits at it; whether it did.
bool open_barrier() {
  int waiting = 0, done = 0, sum = 0;
  for (const Fiber& f : fibers) {
    waiting += f.status == WAITS_FOR_BLOCK;
    done += f.status == DONE;
    if (f.status == WAITS_FOR_BLOCK) sum += static_cast<int>(f.value);
  }
  const int total = static_cast<int>(fibers.size());
  if (waiting == 0 || waiting + done < total) return false;
  if (done) fault(std::to_string(done) + " threads have left, but a barrier waits for them");
  for (Fiber& f : fibers) {
    if (f.operation != fibers[0].operation || f.site != fibers[0].site)
      fault("threads wait at different barriers");
    const bool all = sum == total;
    f.value = f.operation == SYNC_COUNT ? sum : f.operation == SYNC_AND ? all : sum > 0;
    f.status = RUNNABLE;
  }
  return true;
}

// The lines at which threads wait, for the message.
std::string waiting_lines() {
  std::string text;
  std::vector<int> seen;
  for (const Fiber& f : fibers) {
    if (f.status != WAITS_FOR_WARP && f.status != WAITS_FOR_BLOCK) continue;
    if (std::find(seen.begin(), seen.end(), f.site) != seen.end()) continue;
    seen.push_back(f.site);
    text += (seen.size() == 1 ? " (lines " : ", ") + std::to_string(f.site);
  }
  return seen.empty() ? text : text + ")";
}

void run_block() {
  const int total = static_cast<int>(fibers.size()), warps = (total + WARP - 1) / WARP;
  for (;;) {
    bool progress = false;
    for (int k = 0; k < warps; ++k) progress |= run_warp(WARP * (reversed ? warps - 1 - k : k));
    progress |= open_barrier();
    if (std::all_of(fibers.begin(), fibers.end(), [](Fiber& f) { return f.status == DONE; }))
      return;
    if (!progress)
      fault("deadlock: a barrier or collective that not all threads reach" + waiting_lines());
  }
}

}  // namespace

uint64_t collective(Operation operation, unsigned mask, uint64_t value, int argument, int site) {
  Fiber& f = fibers[running];
  f.site = site;
  f.operation = operation;
  f.mask = mask;
  f.value = value;
  f.argument = argument;
  f.status = WAITS_FOR_WARP;
  to_scheduler();
  return fibers[running].value;
}

int barrier(Operation operation, int value, int site) {
  Fiber& f = fibers[running];
  f.site = site;
  f.operation = operation;
  f.value = static_cast<uint64_t>(value);
  f.status = WAITS_FOR_BLOCK;
  to_scheduler();
  return static_cast<int>(fibers[running].value);
}

char* dynamic_shared() {
  const uintptr_t at = reinterpret_cast<uintptr_t>(shared_memory.data());
  return reinterpret_cast<char*>((at + 63) & ~uintptr_t(63));
}

void run(const char* name, dim3 grid, dim3 block, size_t shared_bytes,
         const std::function<void()>& body) {
  kernel_name = name;
  kernel_body = &body;
  const size_t threads = size_t(block.x) * block.y * block.z;
  if (threads == 0 || threads > MOST_THREADS) fault("a block has 1 to 1024 threads");
  if (!stacks) stacks.reset(new char[STACK_BYTES * MOST_THREADS]);
  fibers.assign(threads, Fiber());
  const int64_t blocks = int64_t(grid.x) * grid.y * grid.z;
  for (int64_t k = 0; k < blocks; ++k) {
    const int64_t b = reversed ? blocks - 1 - k : k;
    const dim3 where(static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                     static_cast<unsigned>(b / (int64_t(grid.x) * grid.y)));
    shared_memory.assign(shared_bytes + 64, char(0xff));  // reads before writes give NaN
    for (size_t i = 0; i < threads; ++i) {
      const unsigned t = static_cast<unsigned>(i);
      fibers[i].place = {dim3(t % block.x, t / block.x % block.y, t / (block.x * block.y)), where,
                         block, grid};
      fibers[i].status = RUNNABLE;
      start_fiber(static_cast<int>(i));
    }
    run_block();
  }
}

}  // namespace cuda_shim

// Which way threads and blocks are taken: 0 forward, 1 reversed.
extern "C" __attribute__((visibility("default"))) void cuda_shim_reverse(int wish) {
  cuda_shim::reversed = wish != 0;
}
