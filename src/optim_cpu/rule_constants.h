#pragma once

#include <cstdint>
#include <variant>

#include "strata/optim_cpu/update.h"

namespace strata::optim_cpu {

/// The values of a step that every rule needs.
struct StepConstants {
  explicit StepConstants(const UpdateStep& given)
      : gradient_scale(given.gradient_scale), step_number(static_cast<std::uint64_t>(given.step)) {}

  float gradient_scale;
  std::uint64_t step_number;  ///< for random numbers
};

// The scalars of one update by each rule, worked out in double and rounded to fp32 once, as
// LibTorch rounds the scalar operand of an fp32 operation.

struct AdamConstants : StepConstants {
  AdamConstants(const AdamOptions& options, const UpdateStep& step);

  float weight_factor;  ///< 1 - lr * weight_decay if decoupled, else 1
  float l2;             ///< weight decay added to the gradient
  bool has_l2;          ///< whether it is added at all: 0 * weight is NaN for an infinite weight
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float root_bias_correction2;
  float eps;
  float negative_step_size;
};

struct SgdConstants : StepConstants {
  SgdConstants(const SgdOptions& options, const UpdateStep& step);

  float l2;
  bool has_l2;
  bool has_momentum;
  bool nesterov;
  float momentum;
  float gradient_share;  ///< gradient's part in m: 1 - dampening, but 1 in the first step
  float negative_lr;
};

struct AdagradConstants : StepConstants {
  AdagradConstants(const AdagradOptions& options, const UpdateStep& step);

  float l2;
  bool has_l2;
  float eps;
  float negative_step_size;
};

struct LionConstants : StepConstants {
  LionConstants(const LionOptions& options, const UpdateStep& step);

  float weight_factor;
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float lr;
};

using RuleConstants = std::variant<AdamConstants, SgdConstants, AdagradConstants, LionConstants>;

[[nodiscard]] RuleConstants constants_of(const OptimizerOptions& options, const UpdateStep& step);

}  // namespace strata::optim_cpu
