// SPDX-License-Identifier: Apache-2.0
// The kernels of one instruction set, and what they share with their drivers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../common/params.h"
#include "../common/quads.h"
#include "../common/sparse.h"

namespace iqgs {

// Working memory of one thread: grows, keeps nothing between two calls of `reserve`.
struct Arena {
  void* memory = nullptr;
  size_t capacity = 0;
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();
  // At least `bytes` bytes aligned to a cache line; what was there is lost.
  void* reserve(size_t bytes);
};

// Blending weights of one view, pixel by pixel (CSR, row = y width + x).
struct WeightParams {
  BlendParams blend;         // its image pointers are not read
  float min_weight;          // smaller weights are left out
  const int64_t* row_start;  // [H W + 1] null while counting
  int32_t* count;            // [H W] out while counting
  int32_t* splat;            // [nnz] out
  float* weight;             // [nnz] out
};

// The same by quads.
struct QuadWeightParams {
  BlendParams blend;     // its image pointers are not read
  float min_weight;      // smaller weights are zero; an entry has at least one that is not
  const int64_t* start;  // [quads + 1] null while counting
  int32_t* count;        // [quads] out while counting
  int32_t* row;          // [E] out: the splat
  uint16_t* weight;      // [E, 4] out
};

// Products of quads. To pixels: values [N, C], out [H W, C]. Back: values [H W, C], out [N + S, C].
struct QuadProductParams {
  QuadTable table;
  int channels;  // C, at least 4
  const float* values;
  float* out;
};

// Products of chosen rows: values [N, C], out [P, C]; or back.
struct RowProductParams {
  SparseParams matrix;
  const float* values;
  float* out;
};

// What depends on what a splat is.
struct PrimitiveKernels {
  // Splats first .. last of N, both multiples of LANES or N.
  void (*project)(const ProjectParams&, int64_t first, int64_t last, Arena&);
  void (*project_backward)(const ProjectGradParams&, int64_t first, int64_t last, Arena&);
  // One tile.
  void (*blend_forward)(const BlendParams&, int tile, Arena&);
  void (*blend_backward)(const BlendGradParams&, int tile, Arena&);
  void (*weights)(const WeightParams&, int tile, Arena&);
  void (*quad_weights)(const QuadWeightParams&, int tile, Arena&);
  void (*label_weights)(const LabelWeightParams&, int tile, Arena&);
};

struct KernelTable {
  const char* name;
  PrimitiveKernels surfel, ellipsoid;
  // Rows first .. last.
  void (*gather_rows)(const RowProductParams&, int64_t first, int64_t last);
  void (*scatter_rows)(const RowProductParams&, int64_t first, int64_t last);
  // Quads first .. last.
  void (*gather_quads)(const QuadProductParams&, int64_t first, int64_t last, Arena&);
  void (*scatter_quads)(const QuadProductParams&, int64_t first, int64_t last, Arena&);
};

namespace baseline {
extern const KernelTable TABLE;
}
namespace avx2 {
extern const KernelTable TABLE;
}
namespace avx512 {
extern const KernelTable TABLE;
}

// The fastest set that this processor runs; IQGS_ISA=avx512|avx2|baseline lowers it.
enum class InstructionSet { BASELINE, AVX2, AVX512 };
InstructionSet instruction_set();

const KernelTable& kernels();
const PrimitiveKernels& kernels(Primitive primitive);

}  // namespace iqgs
