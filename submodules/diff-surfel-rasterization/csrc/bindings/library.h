// SPDX-License-Identifier: Apache-2.0
// Under which name and for which device the operators are registered. The CUDA sources are also
// compiled for the host (IQGS_HOST_SHIM, tests only): then the same bindings take CPU tensors.
#pragma once

#include <torch/library.h>

#if defined(IQGS_HOST_SHIM)
#define IQGS_OPERATORS iqgs_surfel_shim
#define IQGS_CUDA_KEY CPU
#else
#define IQGS_OPERATORS iqgs_surfel
#define IQGS_CUDA_KEY CUDA
#endif

// One level of indirection, so that the names above are expanded before torch's macros paste them.
#define IQGS_DEFINE_OPERATORS_(name, m) TORCH_LIBRARY(name, m)
#define IQGS_DEFINE_OPERATORS(m) IQGS_DEFINE_OPERATORS_(IQGS_OPERATORS, m)
#define IQGS_ADD_OPERATORS_(name, m) TORCH_LIBRARY_FRAGMENT(name, m)
#define IQGS_ADD_OPERATORS(m) IQGS_ADD_OPERATORS_(IQGS_OPERATORS, m)
#define IQGS_IMPLEMENT_OPERATORS_(name, key, m) TORCH_LIBRARY_IMPL(name, key, m)
#define IQGS_IMPLEMENT_CPU(m) IQGS_IMPLEMENT_OPERATORS_(IQGS_OPERATORS, CPU, m)
#define IQGS_IMPLEMENT_CUDA(m) IQGS_IMPLEMENT_OPERATORS_(IQGS_OPERATORS, IQGS_CUDA_KEY, m)
