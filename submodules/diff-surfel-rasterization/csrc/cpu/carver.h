// SPDX-License-Identifier: Apache-2.0
// How a thread's working memory is split into arrays that start on cache lines.
#pragma once

#include "lanes.h"

namespace iqgs {
namespace IQGS_ISA {

// A cache line's worth of floats: rows start on cache lines.
IQGS_INLINE int padded(int floats) {
  return (floats + LANES - 1) / LANES * LANES;
}

// Splits an arena into arrays.
struct Carver {
  char* next;
  template <class T>
  IQGS_INLINE T* take(size_t count) {
    T* r = reinterpret_cast<T*>(next);
    next += (count * sizeof(T) + 63) / 64 * 64;
    return r;
  }
};

}  // namespace IQGS_ISA
}  // namespace iqgs
