#pragma once

#include <cstdint>

#include "strata/optim_cpu/adam.h"

namespace strata::optim_cpu {

/// The scalars of one update, worked out in double and rounded to fp32 once, as LibTorch rounds
/// the scalar operand of an fp32 operation.
struct AdamConstants {
  AdamConstants(const AdamOptions& options, std::int64_t step, float gradient_scale);

  float gradient_scale;
  float weight_factor;  ///< 1 - lr * weight_decay where it is decoupled, else 1
  float l2;             ///< weight decay added to the gradient
  bool has_l2;          ///< whether it is added at all: 0 * weight is NaN for an infinite weight
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float root_bias_correction2;
  float eps;
  float negative_step_size;
};

}  // namespace strata::optim_cpu
