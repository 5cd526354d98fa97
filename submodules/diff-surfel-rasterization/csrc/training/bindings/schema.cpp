// SPDX-License-Identifier: Apache-2.0
// The operators of a training step; `stream` is that of ../../bindings/schema.cpp.
#include "../../bindings/library.h"

IQGS_ADD_OPERATORS(m) {
  m.def(
      "activate_splats(Tensor log_scales, Tensor opacity_logits, Tensor sh_dc, Tensor sh_rest, "
      "int used, int stream) -> Tensor[]");
  m.def(
      "activate_splats_backward(Tensor scales, Tensor opacities, Tensor[] grads, int rest, "
      "int[] wanted, int stream) -> Tensor[]");
  m.def(
      "add_screen_signal(Tensor(a!) sum, Tensor(b!) seen, Tensor radii, Tensor signal, int stream) "
      "-> ()");
  m.def(
      "look_at_rows(Tensor(a!) value, Tensor(b!) mean, Tensor(c!) square, Tensor(d!) last, "
      "Tensor rows, Tensor glide, Tensor decay, int step, int stream) -> Tensor");
  m.def(
      "step_rows(Tensor(a!) value, Tensor(b!) mean, Tensor(c!) square, Tensor(d!) last, "
      "Tensor rows, Tensor gradient, float[] numbers, int step, int stream) -> ()");
}
