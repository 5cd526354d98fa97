// SPDX-License-Identifier: Apache-2.0
#include "precision.h"

#include <cstdlib>
#include <cstring>

#include "launch.h"

namespace iqgs {
namespace cuda {
namespace {

// A product of pairs takes 7 operations and a sum 20: with doubles at a half or a third they lose, at a
// 32nd or a 64th they win. There is nothing in between.
constexpr int FAST_RATIO = 8;

}  // namespace

bool doubles_are_slow() {
  const char* const wish = std::getenv("IQGS_FLOAT64");
  if (wish && std::strcmp(wish, "slow") == 0) return true;
  if (wish && std::strcmp(wish, "fast") == 0) return false;
  int device = 0, ratio = 0;
  check(cudaGetDevice(&device), "reading the device");
  check(cudaDeviceGetAttribute(&ratio, cudaDevAttrSingleToDoublePrecisionPerfRatio, device),
        "reading the device's speed in float64");
  return ratio > FAST_RATIO;
}

}  // namespace cuda
}  // namespace iqgs
