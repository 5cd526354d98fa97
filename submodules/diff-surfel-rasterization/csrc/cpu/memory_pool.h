// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace iqgs {

// Large blocks of memory that outlive their tensors: a training step asks for the same sizes as
// the one before, and fresh pages cost more than the pixels that are written to them. At most
// POOL_BYTES lie idle; the rest goes back to the system.
constexpr size_t POOL_BYTES = size_t(512) << 20;
// Smaller requests are better served by the C library.
constexpr size_t POOLED_FROM = size_t(1) << 20;

// Aligned to a huge page; contents undefined. Throws std::bad_alloc.
void* take_block(size_t bytes);
// Gives back what `take_block` returned, from any thread.
void give_block(void* block);

}  // namespace iqgs
