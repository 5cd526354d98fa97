// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace iqgs {
namespace cuda {

// Whether the current device computes float64 so slowly that pairs of floats (twofold.h) are cheaper:
// every GeForce, and the data centres' cards for inference. IQGS_FLOAT64=slow or fast in the
// environment decides instead, to time the one beside the other.
bool doubles_are_slow();

}  // namespace cuda
}  // namespace iqgs
