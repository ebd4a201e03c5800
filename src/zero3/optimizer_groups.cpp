#include "zero3/optimizer_groups.h"

#include <variant>

#include "strata/base/error.h"

namespace strata::zero3 {
namespace {

optim::OptimizerOptions options_of(const formats::OptimizerConfig& config, double lr) {
  switch (config.type) {
    case formats::OptimizerType::kAdam:
    case formats::OptimizerType::kAdamW:
      return optim::AdamOptions{.lr = lr,
                                .beta1 = config.beta1,
                                .beta2 = config.beta2,
                                .eps = config.eps,
                                .weight_decay = config.weight_decay,
                                .decoupled_weight_decay = config.decoupled_weight_decay(),
                                .bias_correction = config.bias_correction};
    case formats::OptimizerType::kSgd:
      return optim::SgdOptions{.lr = lr,
                               .momentum = config.momentum,
                               .dampening = config.dampening,
                               .weight_decay = config.weight_decay,
                               .nesterov = config.nesterov};
    case formats::OptimizerType::kAdagrad:
      return optim::AdagradOptions{.lr = lr,
                                   .lr_decay = config.lr_decay,
                                   .eps = config.eps,
                                   .weight_decay = config.weight_decay};
    case formats::OptimizerType::kLion:
      return optim::LionOptions{.lr = lr,
                                .beta1 = config.beta1,
                                .beta2 = config.beta2,
                                .weight_decay = config.weight_decay};
  }
  STRATA_CHECK(false, "an optimizer type outside of its enumeration");
}

}  // namespace

std::vector<optim::OptimizerOptions> optimizer_groups(const formats::OptimizerConfig& config,
                                                      double lr) {
  std::vector<optim::OptimizerOptions> groups(2, options_of(config, lr));
  std::visit([](auto& options) { options.weight_decay = 0.0; }, groups[kNoDecayGroup]);
  return groups;
}

}  // namespace strata::zero3
