// SPDX-License-Identifier: Apache-2.0
// Chooses the kernels for this processor, once.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"

#if defined(IQGS_X86_KERNELS)
#include <cpuid.h>
#endif

namespace iqgs {
namespace {

#if defined(IQGS_X86_KERNELS)
// Older compilers do not let __builtin_cpu_supports ask for it.
bool converts_halves() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
#endif

InstructionSet fastest_supported() {
#if defined(IQGS_X86_KERNELS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
    return InstructionSet::AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && converts_halves())
    return InstructionSet::AVX2;
#endif
  return InstructionSet::BASELINE;
}

InstructionSet choose() {
  static const char* const NAMES[] = {"baseline", "avx2", "avx512"};
  const int best = static_cast<int>(fastest_supported());
  const char* wish = std::getenv("IQGS_ISA");
  if (!wish || !*wish) return static_cast<InstructionSet>(best);
  for (int level = 0; level < 3; ++level) {
    if (std::strcmp(wish, NAMES[level]) != 0) continue;
    if (level > best)
      throw std::runtime_error(std::string("IQGS_ISA=") + wish +
                               ": this processor or build has no more than " + NAMES[best]);
    return static_cast<InstructionSet>(level);
  }
  throw std::runtime_error(std::string("IQGS_ISA=") + wish + ": expected avx512, avx2 or baseline");
}

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet chosen = choose();
  return chosen;
}

const KernelTable& kernels() {
#if defined(IQGS_X86_KERNELS)
  if (instruction_set() == InstructionSet::AVX512) return avx512::TABLE;
  if (instruction_set() == InstructionSet::AVX2) return avx2::TABLE;
#else
  instruction_set();  // refuses a wish that it cannot fulfil
#endif
  return baseline::TABLE;
}

const PrimitiveKernels& kernels(Primitive primitive) {
  return primitive == Primitive::SURFEL ? kernels().surfel : kernels().ellipsoid;
}

}  // namespace iqgs
