// SPDX-License-Identifier: Apache-2.0
// Times of the CUDA kernels; these operators take no tensor, so they serve any device.
#include "../cuda/timing.h"
#include "inputs.h"
#include "library.h"

namespace iqgs {
namespace torch_binding {
namespace {

void time_kernels(bool wanted) {
  cuda::time_kernels(wanted);
}

// Names of the kernels, and for each the milliseconds of its launches [launches] float32.
std::tuple<std::vector<std::string>, std::vector<Tensor>> take_kernel_times() {
  std::vector<std::string> names;
  std::vector<Tensor> times;
  for (const cuda::KernelTimes& kernel : cuda::take_kernel_times()) {
    const auto launches = static_cast<int64_t>(kernel.milliseconds.size());
    Tensor milliseconds = at::empty({launches}, at::kFloat);
    std::copy(kernel.milliseconds.begin(), kernel.milliseconds.end(), data<float>(milliseconds));
    names.push_back(kernel.name);
    times.push_back(milliseconds);
  }
  return {names, times};
}

IQGS_ADD_OPERATORS(m) {
  m.def("time_kernels(bool wanted) -> ()", time_kernels);
  m.def("take_kernel_times() -> (str[] names, Tensor[] times)", take_kernel_times);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
