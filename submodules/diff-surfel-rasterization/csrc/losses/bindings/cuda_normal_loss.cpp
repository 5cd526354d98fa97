// SPDX-License-Identifier: Apache-2.0
// Normal consistency on a GPU.
#include "../../bindings/cuda_prepare.h"
#include "../../bindings/library.h"
#include "../cuda/normal_loss.h"
#include "normal_inputs.h"

namespace iqgs {
namespace torch_binding {
namespace {

std::vector<Tensor> normal_loss(const Tensor& normal, const Tensor& depth, const Tensor& alpha,
                                const Tensor& median, at::ArrayRef<double> pinhole,
                                double median_share, bool learns, int64_t stream) {
  NormalInputs in = take_normal_inputs(normal, depth, alpha, median, pinhole, median_share);
  const OnDevice on(in.device(), stream);
  const std::vector<Tensor> out = normal_results(in, learns);
  Tensor memory = bytes(cuda::normal_loss_bytes(in.params), in.device());
  cuda::compare_normals(in.params, data<float>(out[0]), data<float>(memory), on.stream);
  return out;
}

IQGS_IMPLEMENT_CUDA(m) {
  m.impl("normal_loss", normal_loss);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
