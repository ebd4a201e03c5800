#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace strata {

/// Parameters that are trained with hyperparameters of their own. What is not said here is as the
/// config's "optimizer" has it, and "strata.no_decay" goes on exempting parameters from its
/// weight decay. A parameter belongs to the group that was added last of those that match it.
struct ParameterGroup {
  std::string name;  ///< for Engine::lr and set_lr; not empty, another one for each group
  /// Of full names, as those of strata.no_decay: "head.*", "*.bias".
  std::vector<std::string> patterns = {};
  /// Asked where no pattern matches; may be empty.
  std::function<bool(const std::string& full_name, const std::vector<std::int64_t>& shape)>
      matches = {};

  double lr_scale = 1.0;                    ///< times the schedule's rate, or Engine::set_lr's
  std::optional<double> lr = {};            ///< instead: this rate, whatever the schedule says
  std::optional<double> weight_decay = {};  ///< also of parameters that strata.no_decay names
  std::optional<std::pair<double, double>> betas = {};  ///< Adam, AdamW, Lion
  std::optional<double> eps = {};                       ///< Adam, AdamW, Adagrad
  std::optional<double> momentum = {};                  ///< SGD, where the config has one above 0
};

}  // namespace strata
