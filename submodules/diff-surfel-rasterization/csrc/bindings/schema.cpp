// SPDX-License-Identifier: Apache-2.0
// The operators, one schema for all devices. `stream` is the address of the CUDA stream to work
// on, 0 on the CPU: passed as a number, it needs no CUDA header here and fits every torch.
#include "library.h"

IQGS_DEFINE_OPERATORS(m) {
  m.def("rasterize(Tensor[] splats, float[] camera, int[] options, int stream) -> Tensor[]");
  m.def(
      "rasterize_backward(Tensor[] splats, float[] camera, int[] options, Tensor radii, "
      "Tensor[] saved, Tensor[] image_grads, int[] wanted, int stream) -> Tensor[]");
  m.def(
      "blend_weights(Tensor[] splats, float[] camera, int[] options, float min_weight, "
      "int stream) -> Tensor[]");
  m.def(
      "splat_weights(Tensor row_start, Tensor splat, Tensor weight, Tensor rows, bool all_rows, "
      "Tensor values, int stream) -> Tensor");
  m.def(
      "splat_weights_backward(Tensor row_start, Tensor splat, Tensor weight, Tensor rows, "
      "bool all_rows, Tensor grad, int splat_count, int stream) -> Tensor");
  m.def(
      "quad_weights(Tensor[] splats, float[] camera, int[] options, float min_weight, "
      "int stream) -> Tensor[]");
  m.def(
      "add_label_weights(Tensor[] splats, float[] camera, int[] options, float min_weight, "
      "Tensor labels, Tensor(a!) sums, int stream) -> ()");
  m.def("splat_quads(Tensor[] weights, int[] sizes, Tensor values, int stream) -> Tensor");
  m.def(
      "splat_quads_backward(Tensor[] weights, int[] sizes, Tensor[] by_splat, Tensor grad, "
      "int stream) -> Tensor");
  m.def("sample_quads(Tensor[] weights, int[] sizes, Tensor pixels, int stream) -> Tensor[]");
}
