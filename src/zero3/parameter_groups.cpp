#include "zero3/parameter_groups.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <variant>

#include "strata/base/error.h"
#include "strata/formats/name_pattern.h"

namespace strata::zero3 {
namespace {

optim::OptimizerOptions options_of_config(const formats::OptimizerConfig& config) {
  switch (config.type) {
    case formats::OptimizerType::kAdam:
    case formats::OptimizerType::kAdamW:
      return optim::AdamOptions{.beta1 = config.beta1,
                                .beta2 = config.beta2,
                                .eps = config.eps,
                                .weight_decay = config.weight_decay,
                                .decoupled_weight_decay = config.decoupled_weight_decay(),
                                .bias_correction = config.bias_correction};
    case formats::OptimizerType::kSgd:
      return optim::SgdOptions{.momentum = config.momentum,
                               .dampening = config.dampening,
                               .weight_decay = config.weight_decay,
                               .nesterov = config.nesterov};
    case formats::OptimizerType::kAdagrad:
      return optim::AdagradOptions{
          .lr_decay = config.lr_decay, .eps = config.eps, .weight_decay = config.weight_decay};
    case formats::OptimizerType::kLion:
      return optim::LionOptions{
          .beta1 = config.beta1, .beta2 = config.beta2, .weight_decay = config.weight_decay};
  }
  STRATA_CHECK(false, "an optimizer type outside of its enumeration");
}

[[noreturn]] void refuse_parameter(const ParameterGroup& group, const char* parameter) {
  throw UsageError("parameter group '" + group.name + "': " + parameter +
                   " is no hyperparameter of this run's optimizer; leave it out");
}

/// Overwrites options with those that the group gives. One overload for each optimizer's.
struct GroupSettings {
  const ParameterGroup& group;

  void operator()(optim::AdamOptions& options) const {
    set_betas(options);
    if (group.eps) options.eps = *group.eps;
    refuse(group.momentum.has_value(), "momentum");
  }
  void operator()(optim::SgdOptions& options) const {
    // Without momentum in the config there is no state that it could live in.
    refuse(group.momentum && (options.momentum == 0) != (*group.momentum == 0), "momentum");
    if (group.momentum) options.momentum = *group.momentum;
    refuse(group.betas.has_value(), "betas");
    refuse(group.eps.has_value(), "eps");
  }
  void operator()(optim::AdagradOptions& options) const {
    if (group.eps) options.eps = *group.eps;
    refuse(group.betas.has_value(), "betas");
    refuse(group.momentum.has_value(), "momentum");
  }
  void operator()(optim::LionOptions& options) const {
    set_betas(options);
    refuse(group.eps.has_value(), "eps");
    refuse(group.momentum.has_value(), "momentum");
  }

 private:
  template <class Options>
  void set_betas(Options& options) const {
    if (!group.betas) return;
    options.beta1 = group.betas->first;
    options.beta2 = group.betas->second;
  }
  void refuse(bool given, const char* parameter) const {
    if (given) refuse_parameter(group, parameter);
  }
};

double rate_of(const ParameterGroup& group, double lr, const GroupRates& rates = {}) {
  const auto set = rates.find(group.name);
  if (set != rates.end()) return set->second;
  return group.lr ? *group.lr : lr * group.lr_scale;
}

optim::OptimizerOptions options_of(const ParameterGroup& group,
                                   const formats::OptimizerConfig& optimizer, double rate,
                                   bool exempt) {
  optim::OptimizerOptions options = options_of_config(optimizer);
  std::visit(GroupSettings{group}, options);
  std::visit(
      [&](auto& each) {
        each.lr = rate;
        each.weight_decay = group.weight_decay.value_or(exempt ? 0.0 : each.weight_decay);
      },
      options);
  return options;
}

}  // namespace

ParameterGroups::ParameterGroups(const formats::DsConfig& config) : config_(config) {
  groups_.emplace_back();
  for (const optim::OptimizerOptions& each : options(config.optimizer, config.optimizer.lr)) {
    optim::check(each);
  }
  for (std::size_t i = 0; i < config.strata.parameter_groups.size(); ++i) {
    const formats::ParameterGroupConfig& group = config.strata.parameter_groups[i];
    add({.name = "strata.parameter_groups[" + std::to_string(i) + "]",
         .patterns = group.params,
         .lr_scale = group.lr_scale.value_or(1.0),
         .lr = group.lr,
         .weight_decay = group.weight_decay});
  }
}

void ParameterGroups::add(ParameterGroup group) {
  const auto same = [&](const ParameterGroup& other) { return other.name == group.name; };
  if (group.name.empty() || std::any_of(groups_.begin(), groups_.end(), same)) {
    throw UsageError("a parameter group needs a name that no other has, not '" + group.name + "'");
  }
  if (!std::isfinite(group.lr_scale) || group.lr_scale < 0) {
    throw ConfigError("parameter group '" + group.name +
                      "': lr_scale must be finite and not negative");
  }
  optim::check(options_of(group, config_.optimizer, rate_of(group, config_.optimizer.lr),
                          /*exempt=*/false));
  groups_.push_back(std::move(group));
}

std::uint32_t ParameterGroups::group_of(const std::string& full_name,
                                        const std::vector<std::int64_t>& shape) const {
  const auto matches = [&](const ParameterGroup& group) {
    return formats::matches_any_pattern(group.patterns, full_name) ||
           (group.matches && group.matches(full_name, shape));
  };
  std::size_t index = groups_.size() - 1;
  while (index > 0 && !matches(groups_[index])) --index;
  return static_cast<std::uint32_t>(2 * index + (config_.decays(full_name) ? 0 : 1));
}

std::vector<optim::OptimizerOptions> ParameterGroups::options(
    const formats::OptimizerConfig& optimizer, double lr, const GroupRates& rates) const {
  std::vector<optim::OptimizerOptions> all;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    const double rate = rate_of(groups_[i], lr, rates);
    all.push_back(options_of(groups_[i], optimizer, rate, /*exempt=*/false));
    all.push_back(options_of(groups_[i], optimizer, rate, /*exempt=*/true));
  }
  return all;
}

std::size_t ParameterGroups::find(std::string_view name) const {
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    if (groups_[i].name == name) return i;
  }
  throw UsageError("there is no parameter group '" + std::string(name) +
                   "'; add_parameter_group makes one");
}

double ParameterGroups::lr_of(std::string_view name, double lr, const GroupRates& rates) const {
  return rate_of(groups_[find(name)], lr, rates);
}

void ParameterGroups::check_lr(double lr) {
  if (!std::isfinite(lr) || lr < 0) {
    throw ConfigError("a learning rate must be finite and not negative, not " + std::to_string(lr));
  }
}

}  // namespace strata::zero3
