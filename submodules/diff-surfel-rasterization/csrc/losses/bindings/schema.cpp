// SPDX-License-Identifier: Apache-2.0
// The operators of the losses; `stream` is that of ../../bindings/schema.cpp.
#include "../../bindings/library.h"

IQGS_ADD_OPERATORS(m) {
  m.def(
      "mask_loss(Tensor queries, Tensor features, Tensor owner, float gamma, float alpha, "
      "int stream) -> Tensor[]");
  m.def(
      "mask_loss_backward(Tensor queries, Tensor features, Tensor owner, float gamma, float alpha, "
      "Tensor overlap, Tensor grad_focal, Tensor grad_dice, int[] wanted, int stream) -> Tensor[]");
  m.def(
      "image_loss(Tensor image, Tensor target, Tensor weight, bool learns, int stream) "
      "-> Tensor[]");
  m.def(
      "image_loss_backward(Tensor image, Tensor target, Tensor weight, Tensor total, Tensor slope, "
      "Tensor grad_losses, int stream) -> Tensor");
  m.def(
      "normal_loss(Tensor normal, Tensor depth, Tensor alpha, Tensor median, float[] pinhole, "
      "float median_share, bool learns, int stream) -> Tensor[]");
}
