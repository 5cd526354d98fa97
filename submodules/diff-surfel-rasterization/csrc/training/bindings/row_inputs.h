// SPDX-License-Identifier: Apache-2.0
// What the operators of Adam over rows share on both devices: checks, and the kernels' structs.
#pragma once

#include "../../bindings/inputs.h"
#include "../row_params.h"

namespace iqgs {
namespace torch_binding {

inline AdamRows take_rows(const char* function, const Tensor& value, const Tensor& mean,
                          const Tensor& square, const Tensor& last) {
  TORCH_CHECK_VALUE(value.dim() == 2, function, ": value must have shape [N, C], got ",
                    value.sizes());
  const int64_t n = value.size(0), c = value.size(1);
  check(function, "value", value, {n, c}, value.device());
  check(function, "mean", mean, {n, c}, value.device());
  check(function, "square", square, {n, c}, value.device());
  check(function, "last", last, {n}, value.device(), at::kLong);
  for (const Tensor& t : {value, mean, square, last})
    TORCH_CHECK_VALUE(t.is_contiguous(), function, ": the state must be contiguous");
  return {static_cast<int>(c), data<float>(value), data<float>(mean), data<float>(square),
          data<int64_t>(last)};
}

struct Look {
  Tensor rows, glide, decay, out;
  LookParams params;
};

// Numbers in `rows` and `last` are trusted, as those of any gather are.
inline Look take_look(const Tensor& value, const Tensor& mean, const Tensor& square,
                      const Tensor& last, const Tensor& rows, const Tensor& glide,
                      const Tensor& decay, int64_t step) {
  const char* const name = "look_at_rows";
  const AdamRows state = take_rows(name, value, mean, square, last);
  const int64_t r = rows.numel();
  check(name, "rows", rows, {r}, value.device(), at::kLong);
  check(name, "glide", glide, {step + 1}, value.device(), at::kDouble);
  TORCH_CHECK_VALUE(decay.dim() == 2 && decay.size(1) > step, name,
                    ": decay must have shape [2, more than ", step, "], got ", decay.sizes());
  check(name, "decay", decay, {2, decay.size(1)}, value.device());
  Look l = {rows.contiguous(), glide.contiguous(), decay.contiguous(),
            floats({r, value.size(1)}, value.device()), {}};
  l.params = {state,
              r,
              data<int64_t>(l.rows),
              step,
              data<double>(l.glide),
              data<float>(l.decay),
              decay.size(1),
              data<float>(l.out)};
  return l;
}

struct Step {
  Tensor rows, gradient;
  StepParams params;
};

// numbers: the betas, the rate over its correction, the correction of the root, eps.
inline Step take_step(const Tensor& value, const Tensor& mean, const Tensor& square,
                      const Tensor& last, const Tensor& rows, const Tensor& gradient,
                      at::ArrayRef<double> numbers, int64_t step) {
  const char* const name = "step_rows";
  const AdamRows state = take_rows(name, value, mean, square, last);
  const int64_t r = rows.numel();
  check(name, "rows", rows, {r}, value.device(), at::kLong);
  check(name, "gradient", gradient, {r, value.size(1)}, value.device());
  TORCH_CHECK_VALUE(numbers.size() == 5, name, ": expected 5 numbers, got ", numbers.size());
  Step s = {rows.contiguous(), gradient.contiguous(), {}};
  s.params = {state,
              r,
              data<int64_t>(s.rows),
              step,
              data<float>(s.gradient),
              static_cast<float>(1.0 - numbers[0]),
              static_cast<float>(numbers[1]),
              static_cast<float>(1.0 - numbers[1]),
              static_cast<float>(numbers[2]),
              static_cast<float>(numbers[3]),
              static_cast<float>(numbers[4])};
  return s;
}

}  // namespace torch_binding
}  // namespace iqgs
