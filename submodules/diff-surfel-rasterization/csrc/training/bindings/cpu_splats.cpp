// SPDX-License-Identifier: Apache-2.0
// What a training step does to all splats, on the CPU.
#include <ATen/Parallel.h>

#include "../../bindings/library.h"
#include "../cpu/splats.h"
#include "row_inputs.h"
#include "splat_inputs.h"

namespace iqgs {
namespace torch_binding {
namespace {

std::vector<Tensor> activate(const Tensor& log_scales, const Tensor& opacity_logits,
                             const Tensor& sh_dc, const Tensor& sh_rest, int64_t used, int64_t) {
  const Activation a = take_activation(log_scales, opacity_logits, sh_dc, sh_rest, used);
  activate_splats(a.params, at::get_num_threads());
  return a.results;
}

std::vector<Tensor> activate_backward(const Tensor& scales, const Tensor& opacities,
                                      at::TensorList grads, int64_t rest, at::IntArrayRef wanted,
                                      int64_t) {
  const ActivationGrads g = take_activation_grads(scales, opacities, grads, rest, wanted);
  activate_splats_backward(g.params, at::get_num_threads());
  return g.results;
}

void add_screen_signal(Tensor& sum, Tensor& seen, const Tensor& radii, const Tensor& signal,
                       int64_t) {
  const Signal s = take_signal(sum, seen, radii, signal);
  add_signals(s.params, at::get_num_threads());
}

Tensor look_at(Tensor& value, Tensor& mean, Tensor& square, Tensor& last, const Tensor& rows,
               const Tensor& glide, const Tensor& decay, int64_t step, int64_t) {
  const Look l = take_look(value, mean, square, last, rows, glide, decay, step);
  look_at_rows(l.params, at::get_num_threads());
  return l.out;
}

void step(Tensor& value, Tensor& mean, Tensor& square, Tensor& last, const Tensor& rows,
          const Tensor& gradient, at::ArrayRef<double> numbers, int64_t number, int64_t) {
  const Step s = take_step(value, mean, square, last, rows, gradient, numbers, number);
  step_rows(s.params, at::get_num_threads());
}

IQGS_IMPLEMENT_CPU(m) {
  m.impl("activate_splats", activate);
  m.impl("activate_splats_backward", activate_backward);
  m.impl("add_screen_signal", add_screen_signal);
  m.impl("look_at_rows", look_at);
  m.impl("step_rows", step);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
