#include "optim_cpu/rule_constants.h"

#include <cmath>

namespace strata::optim_cpu {

AdamConstants::AdamConstants(const AdamOptions& options, const UpdateStep& step)
    : StepConstants(step) {
  const auto steps = static_cast<double>(step.step);
  const double correction1 = options.bias_correction ? 1 - std::pow(options.beta1, steps) : 1;
  const double correction2 = options.bias_correction ? 1 - std::pow(options.beta2, steps) : 1;
  const double decay = options.decoupled_weight_decay ? options.lr * options.weight_decay : 0;

  weight_factor = static_cast<float>(1 - decay);
  l2 = static_cast<float>(options.weight_decay);
  has_l2 = !options.decoupled_weight_decay && options.weight_decay != 0;
  beta1 = static_cast<float>(options.beta1);
  one_minus_beta1 = static_cast<float>(1 - options.beta1);
  beta2 = static_cast<float>(options.beta2);
  one_minus_beta2 = static_cast<float>(1 - options.beta2);
  root_bias_correction2 = static_cast<float>(std::sqrt(correction2));
  eps = static_cast<float>(options.eps);
  negative_step_size = static_cast<float>(-(options.lr / correction1));
}

SgdConstants::SgdConstants(const SgdOptions& options, const UpdateStep& step)
    : StepConstants(step),
      l2(static_cast<float>(options.weight_decay)),
      has_l2(options.weight_decay != 0),
      has_momentum(options.momentum != 0),
      nesterov(options.nesterov),
      momentum(static_cast<float>(options.momentum)),
      gradient_share(static_cast<float>(step.step == 1 ? 1 : 1 - options.dampening)),
      negative_lr(static_cast<float>(-options.lr)) {}

AdagradConstants::AdagradConstants(const AdagradOptions& options, const UpdateStep& step)
    : StepConstants(step),
      l2(static_cast<float>(options.weight_decay)),
      has_l2(options.weight_decay != 0),
      eps(static_cast<float>(options.eps)),
      negative_step_size(static_cast<float>(
          -(options.lr / (1 + static_cast<double>(step.step - 1) * options.lr_decay)))) {}

LionConstants::LionConstants(const LionOptions& options, const UpdateStep& step)
    : StepConstants(step),
      weight_factor(static_cast<float>(1 - options.lr * options.weight_decay)),
      beta1(static_cast<float>(options.beta1)),
      one_minus_beta1(static_cast<float>(1 - options.beta1)),
      beta2(static_cast<float>(options.beta2)),
      one_minus_beta2(static_cast<float>(1 - options.beta2)),
      lr(static_cast<float>(options.lr)) {}

namespace {

struct MakeConstants {
  const UpdateStep& step;

  RuleConstants operator()(const AdamOptions& given) const { return AdamConstants(given, step); }
  RuleConstants operator()(const SgdOptions& given) const { return SgdConstants(given, step); }
  RuleConstants operator()(const AdagradOptions& given) const {
    return AdagradConstants(given, step);
  }
  RuleConstants operator()(const LionOptions& given) const { return LionConstants(given, step); }
};

}  // namespace

RuleConstants constants_of(const OptimizerOptions& options, const UpdateStep& step) {
  return std::visit(MakeConstants{step}, options);
}

}  // namespace strata::optim_cpu
