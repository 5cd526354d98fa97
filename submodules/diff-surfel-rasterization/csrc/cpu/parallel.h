// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

#include "kernels.h"

namespace iqgs {

// Runs work(item, arena) for every item of [0, items), on up to `threads` threads. Items are taken
// in chunks of `grain`; an item must not depend on which thread runs it. The first exception is
// rethrown on the caller's thread.
void parallel_for(int64_t items, int64_t grain, int threads,
                  const std::function<void(int64_t, Arena&)>& work);

}  // namespace iqgs
