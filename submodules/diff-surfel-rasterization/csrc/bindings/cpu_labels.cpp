// SPDX-License-Identifier: Apache-2.0
// Blending weights of one view on the CPU, summed by the labels of the pixels.
#include "cpu_prepare.h"
#include "labels.h"
#include "library.h"

namespace iqgs {
namespace torch_binding {
namespace {

void add_label_weights(at::TensorList splats, at::ArrayRef<double> camera,
                       at::IntArrayRef options, double min_weight, const Tensor& labels,
                       const Tensor& sums, int64_t) {
  const char* const name = "add_label_weights";
  const View view = take_view(name, camera, options);
  const Inputs in = take_inputs(name, splats, view.primitive);
  const Tensor maps = labels.contiguous();
  check_label_sums(name, in, view, maps, sums);
  Tensor radii;
  std::vector<Tensor> state = prepare(in, view, radii);
  weigh_tiles(LabelWeightParams{blend_params(in, view, state), static_cast<float>(min_weight),
                                data<int32_t>(maps), static_cast<int>(maps.size(0)), sums.size(1),
                                data<int64_t>(sums)},
              at::get_num_threads());
}

IQGS_IMPLEMENT_CPU(m) {
  m.impl("add_label_weights", add_label_weights);
}

}  // namespace
}  // namespace torch_binding
}  // namespace iqgs
