// SPDX-License-Identifier: Apache-2.0
// Adam over chosen rows of a large parameter. Rows that rest go on moving on their momentum; they
// are brought up to date when somebody looks at them. Both devices share it.
#pragma once

#include <cstdint>

#include "../common/scalar.h"

namespace iqgs {

// The parameter [N, C] and its moments, and in which step each row was last up to date.
struct AdamRows {
  int channels;
  float* value;
  float* mean;
  float* square;
  int64_t* last;
};

struct LookParams {
  AdamRows rows;
  int64_t count;          // R
  const int64_t* chosen;  // [R] each row once
  int64_t step;           // steps so far
  const double* glide;    // [step + 1] what a row that was up to date in step t has to catch up
  const float* decay;     // [2, table] powers 0 .. of the two betas
  int64_t table;
  float* out;  // [R, C] the values
};

struct StepParams {
  AdamRows rows;
  int64_t count;
  const int64_t* chosen;
  int64_t step;           // with this one
  const float* gradient;  // [R, C]
  // 1 - beta1, beta2 and 1 - beta2: differences of single precision would be wrong in the fifth digit.
  float of_gradient, kept_square, of_square;
  float rate;             // over 1 - first^step
  float correction;       // root of 1 - second^step
  float eps;
};

// What one number of a row becomes. `mean`, `square`: its moments.
SURFEL_HD float catch_up(float value, float glide, float mean, float square) {
  const float length = root(square);
  return value - glide * mean / (length > 1.17549435e-38f ? length : 1.17549435e-38f);
}

SURFEL_HD float adam_step(const StepParams& p, float value, float gradient, float& mean,
                          float& square) {
  mean = mean + p.of_gradient * (gradient - mean);
  square = square * p.kept_square + p.of_square * gradient * gradient;
  return value - p.rate * mean / (root(square) / p.correction + p.eps);
}

}  // namespace iqgs
