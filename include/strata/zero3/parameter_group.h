#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace strata {

/// Parameters that are trained with hyperparameters of their own. Hyperparameters not given here
/// are those of the config's "optimizer", and "strata.no_decay" goes on exempting parameters from
/// its weight decay. A parameter that matches several groups belongs to the one added last.
struct ParameterGroup {
  std::string name;  ///< for Engine::lr and set_lr; not empty, unique
  /// Patterns of full names, written like strata.no_decay: "head.*", "*.bias".
  std::vector<std::string> patterns = {};
  /// Asked where no pattern matches; may be empty.
  std::function<bool(const std::string& full_name, const std::vector<std::int64_t>& shape)>
      matches = {};

  double lr_scale = 1.0;                    ///< multiplies the schedule's rate, or Engine::set_lr's
  std::optional<double> lr = {};            ///< replaces it, whatever the schedule says
  std::optional<double> weight_decay = {};  ///< applies even where strata.no_decay matches
  std::optional<std::pair<double, double>> betas = {};  ///< Adam, AdamW, Lion
  std::optional<double> eps = {};                       ///< Adam, AdamW, Adagrad
  std::optional<double> momentum = {};                  ///< SGD, where the config has one above 0
};

}  // namespace strata
