// SPDX-License-Identifier: Apache-2.0
// Normal consistency on the CPU.
#include <ATen/Parallel.h>

#include "../../bindings/library.h"
#include "../cpu/normal_loss.h"
#include "normal_inputs.h"

namespace iqgs {
namespace torch_binding {
namespace {

std::vector<Tensor> normal_loss(const Tensor& normal, const Tensor& depth, const Tensor& alpha,
                                const Tensor& median, at::ArrayRef<double> pinhole,
                                double median_share, bool learns, int64_t) {
  NormalInputs in = take_normal_inputs(normal, depth, alpha, median, pinhole, median_share);
  const std::vector<Tensor> out = normal_results(in, learns);
  const double sum = normal_sum(in.params, at::get_num_threads());
  *data<float>(out[0]) = normal_disagreement(sum, in.pixels());
  return out;
}

IQGS_IMPLEMENT_CPU(m) {
  m.impl("normal_loss", normal_loss);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
