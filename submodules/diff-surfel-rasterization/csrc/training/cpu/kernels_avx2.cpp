// SPDX-License-Identifier: Apache-2.0
// The kernels compiled for one instruction set; setup.py passes this file its flags.
#define IQGS_ISA avx2
#include "kernels_impl.h"
