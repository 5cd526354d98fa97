// SPDX-License-Identifier: Apache-2.0
// What one thread of this machine can do: multiply-adds on registers, and copies of memory far
// larger than any cache. Compiled by peak.py for the processor at hand.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif
constexpr int LANES = BYTES / 4;
typedef float Vector __attribute__((vector_size(BYTES)));

// Chains that do not wait for each other: enough to hide a latency of five at two a cycle, few
// enough for sixteen registers.
constexpr int CHAINS = 12;
constexpr int64_t STEPS = 1 << 20;

// Seconds that the processor worked for this thread: others may use it in between.
double now() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

// One run of all chains; the result depends on every step, so that none can be left out.
__attribute__((noinline)) float run_chains(float factor, float summand) {
  Vector chain[CHAINS];
#pragma GCC unroll 12
  for (int c = 0; c < CHAINS; ++c) chain[c] = Vector{} + static_cast<float>(c);
  const Vector a = Vector{} + factor, b = Vector{} + summand;
  for (int64_t i = 0; i < STEPS; ++i)
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; ++c) chain[c] = chain[c] * a + b;
  Vector sum = {};
#pragma GCC unroll 12
  for (int c = 0; c < CHAINS; ++c) sum += chain[c];
  float total = 0.0f;
  for (int i = 0; i < LANES; ++i) total += sum[i];
  return total;
}

}  // namespace

extern "C" {

// Numbers in a vector of the instruction set that this was compiled for.
int vector_lanes() {
  return LANES;
}

// Billions of float32 operations a second, best of `turns`; a multiply-add counts as two.
double multiply_add_gflops(int turns) {
  double best = 0.0;
  volatile float keep;
  for (int t = 0; t < turns; ++t) {
    const double start = now();
    keep = run_chains(0.999f, 0.001f);
    best = std::max(best, 2.0 * LANES * CHAINS * STEPS / (now() - start) / 1e9);
  }
  (void)keep;
  return best;
}

// GiB a second that are read and written together, as STREAM counts, best of `turns`; 0 where there
// is no memory for two arrays of `bytes`.
double copy_gib(int64_t bytes, int turns) {
  char* const from = static_cast<char*>(std::malloc(bytes));
  char* const to = static_cast<char*>(std::malloc(bytes));
  double best = 0.0;
  if (from && to) {
    std::memset(from, 1, bytes);
    std::memset(to, 2, bytes);
    for (int t = 0; t < turns; ++t) {
      const double start = now();
      std::memcpy(to, from, bytes);
      __asm__ volatile("" : : "r"(to) : "memory");
      best = std::max(best, 2.0 * bytes / (now() - start) / (1 << 30));
    }
  }
  std::free(from);
  std::free(to);
  return best;
}

}  // extern "C"
