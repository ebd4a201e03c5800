#include "optim_cpu/adam_constants.h"

#include <cmath>

namespace strata::optim_cpu {

AdamConstants::AdamConstants(const AdamOptions& options, std::int64_t step, float scale) {
  const auto steps = static_cast<double>(step);
  const double correction1 = options.bias_correction ? 1 - std::pow(options.beta1, steps) : 1;
  const double correction2 = options.bias_correction ? 1 - std::pow(options.beta2, steps) : 1;
  const double decay = options.decoupled_weight_decay ? options.lr * options.weight_decay : 0;

  gradient_scale = scale;
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

}  // namespace strata::optim_cpu
