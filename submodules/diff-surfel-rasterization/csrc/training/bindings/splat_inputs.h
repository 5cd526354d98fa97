// SPDX-License-Identifier: Apache-2.0
// What the operators of a training step share on both devices: checks, and the kernels' structs.
#pragma once

#include "../../bindings/inputs.h"
#include "../splat_params.h"

namespace iqgs {
namespace torch_binding {

struct Activation {
  Tensor log_scales, opacity_logits, sh_dc, sh_rest;
  std::vector<Tensor> results;  // scales, opacities, sh
  ActivateParams params;
};

inline Activation take_activation(const Tensor& log_scales, const Tensor& opacity_logits,
                                  const Tensor& sh_dc, const Tensor& sh_rest, int64_t used) {
  const char* const name = "activate_splats";
  TORCH_CHECK_VALUE(log_scales.dim() == 2, name, ": log_scales must have shape [N, S], got ",
                    log_scales.sizes());
  TORCH_CHECK_VALUE(sh_rest.dim() == 3, name, ": sh_rest must have shape [N, K - 1, 3], got ",
                    sh_rest.sizes());
  const at::Device device = log_scales.device();
  const int64_t n = log_scales.size(0), s = log_scales.size(1), rest = sh_rest.size(1);
  TORCH_CHECK_VALUE(used >= 1 && used <= rest + 1, name, ": used coefficients must be 1 .. ",
                    rest + 1, ", got ", used);
  check(name, "log_scales", log_scales, {n, s}, device);
  check(name, "opacity_logits", opacity_logits, {n, 1}, device);
  check(name, "sh_dc", sh_dc, {n, 1, 3}, device);
  check(name, "sh_rest", sh_rest, {n, rest, 3}, device);
  Activation a = {log_scales.contiguous(), opacity_logits.contiguous(), sh_dc.contiguous(),
                  sh_rest.contiguous(), {}, {}};
  a.results = {floats({n, s}, device), floats({n, 1}, device), floats({n, used, 3}, device)};
  a.params = {n,
              static_cast<int>(s),
              static_cast<int>(rest),
              static_cast<int>(used),
              data<float>(a.log_scales),
              data<float>(a.opacity_logits),
              data<float>(a.sh_dc),
              data<float>(a.sh_rest),
              data<float>(a.results[0]),
              data<float>(a.results[1]),
              data<float>(a.results[2])};
  return a;
}

struct ActivationGrads {
  Tensor scales, opacities, grad_scales, grad_opacities, grad_sh;
  std::vector<Tensor> results;  // of log_scales, opacity_logits, sh_dc, sh_rest; empty: not wanted
  ActivateGradParams params;
};

inline ActivationGrads take_activation_grads(const Tensor& scales, const Tensor& opacities,
                                             at::TensorList grads, int64_t rest,
                                             at::IntArrayRef wanted) {
  const char* const name = "activate_splats_backward";
  TORCH_CHECK_VALUE(grads.size() == 3 && wanted.size() == 4, name,
                    ": expected 3 gradients and 4 wishes, got ", grads.size(), " and ",
                    wanted.size());
  const at::Device device = scales.device();
  const int64_t n = scales.size(0), s = scales.size(1), used = grads[2].size(1);
  check(name, "scales", scales, {n, s}, device);
  check(name, "opacities", opacities, {n, 1}, device);
  check(name, "the gradient of scales", grads[0], {n, s}, device);
  check(name, "the gradient of opacities", grads[1], {n, 1}, device);
  check(name, "the gradient of sh", grads[2], {n, used, 3}, device);
  TORCH_CHECK_VALUE(used <= rest + 1, name, ": at most ", rest + 1, " coefficients, got ", used);
  ActivationGrads g = {scales.contiguous(),
                       opacities.contiguous(),
                       grads[0].contiguous(),
                       grads[1].contiguous(),
                       grads[2].contiguous(),
                       {},
                       {}};
  const std::vector<std::vector<int64_t>> shapes = {{n, s}, {n, 1}, {n, 1, 3}, {n, rest, 3}};
  for (int i = 0; i < 4; ++i)
    g.results.push_back(wanted[i] ? floats(shapes[i], device) : floats({0}, device));
  auto target = [&](int i) { return wanted[i] ? data<float>(g.results[i]) : nullptr; };
  g.params = {n,
              static_cast<int>(s),
              static_cast<int>(rest),
              static_cast<int>(used),
              data<float>(g.scales),
              data<float>(g.opacities),
              data<float>(g.grad_scales),
              data<float>(g.grad_opacities),
              data<float>(g.grad_sh),
              target(0),
              target(1),
              target(2),
              target(3)};
  return g;
}

struct Signal {
  Tensor radii, signal;
  SignalParams params;
};

inline Signal take_signal(const Tensor& sum, const Tensor& seen, const Tensor& radii,
                          const Tensor& signal) {
  const char* const name = "add_screen_signal";
  const int64_t n = radii.size(0);
  check(name, "radii", radii, {n}, sum.device(), at::kInt);
  check(name, "signal", signal, {n, 3}, sum.device());
  check(name, "sum", sum, {n}, sum.device());
  check(name, "seen", seen, {n}, sum.device());
  TORCH_CHECK_VALUE(sum.is_contiguous() && seen.is_contiguous(), name,
                    ": sum and seen must be contiguous");
  Signal s = {radii.contiguous(), signal.contiguous(), {}};
  s.params = {n, data<int32_t>(s.radii), data<float>(s.signal), data<float>(sum),
              data<float>(seen)};
  return s;
}

}  // namespace torch_binding
}  // namespace iqgs
