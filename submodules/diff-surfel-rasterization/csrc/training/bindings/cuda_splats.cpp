// SPDX-License-Identifier: Apache-2.0
// What a training step does to all splats, on a GPU.
#include "../../bindings/cuda_prepare.h"
#include "../../bindings/library.h"
#include "../cuda/splats.h"
#include "row_inputs.h"
#include "splat_inputs.h"

namespace iqgs {
namespace torch_binding {
namespace {

std::vector<Tensor> activate(const Tensor& log_scales, const Tensor& opacity_logits,
                             const Tensor& sh_dc, const Tensor& sh_rest, int64_t used,
                             int64_t stream) {
  const OnDevice on(log_scales.device(), stream);
  const Activation a = take_activation(log_scales, opacity_logits, sh_dc, sh_rest, used);
  cuda::activate_splats(a.params, on.stream);
  return a.results;
}

std::vector<Tensor> activate_backward(const Tensor& scales, const Tensor& opacities,
                                      at::TensorList grads, int64_t rest, at::IntArrayRef wanted,
                                      int64_t stream) {
  const OnDevice on(scales.device(), stream);
  const ActivationGrads g = take_activation_grads(scales, opacities, grads, rest, wanted);
  cuda::activate_splats_backward(g.params, on.stream);
  return g.results;
}

void add_screen_signal(Tensor& sum, Tensor& seen, const Tensor& radii, const Tensor& signal,
                       int64_t stream) {
  const OnDevice on(sum.device(), stream);
  const Signal s = take_signal(sum, seen, radii, signal);
  cuda::add_signals(s.params, on.stream);
}

Tensor look_at(Tensor& value, Tensor& mean, Tensor& square, Tensor& last, const Tensor& rows,
               const Tensor& glide, const Tensor& decay, int64_t step, int64_t stream) {
  const OnDevice on(value.device(), stream);
  const Look l = take_look(value, mean, square, last, rows, glide, decay, step);
  cuda::look_at_rows(l.params, on.stream);
  return l.out;
}

void step(Tensor& value, Tensor& mean, Tensor& square, Tensor& last, const Tensor& rows,
          const Tensor& gradient, at::ArrayRef<double> numbers, int64_t number, int64_t stream) {
  const OnDevice on(value.device(), stream);
  const Step s = take_step(value, mean, square, last, rows, gradient, numbers, number);
  cuda::step_rows(s.params, on.stream);
}

IQGS_IMPLEMENT_CUDA(m) {
  m.impl("activate_splats", activate);
  m.impl("activate_splats_backward", activate_backward);
  m.impl("add_screen_signal", add_screen_signal);
  m.impl("look_at_rows", look_at);
  m.impl("step_rows", step);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
