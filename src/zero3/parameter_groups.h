#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "strata/formats/ds_config.h"
#include "strata/optim_cpu/optimizer_options.h"
#include "strata/zero3/parameter_group.h"

namespace strata::zero3 {

/// Learning rates that a program has set, by the name of their group: in place of the group's own,
/// and without a name in place of the schedule's.
using GroupRates = std::map<std::string, double, std::less<>>;

/// The groups of parameters of a run and their hyperparameters: one of all that belong to no other,
/// those of "strata.parameter_groups" under that name and their index, then those that were added.
/// Every group is two of the optimizer's: its parameters that decay, and those that
/// "strata.no_decay" exempts. No LibTorch.
class ParameterGroups {
 public:
  /// Throws ConfigError for a hyperparameter out of range.
  explicit ParameterGroups(const formats::DsConfig& config);

  /// Throws UsageError for a name that is empty or taken, or a hyperparameter that the optimizer
  /// does not have; ConfigError for one out of range.
  void add(ParameterGroup group);

  /// The optimizer's group of a parameter: an index into `options`.
  [[nodiscard]] std::uint32_t group_of(const std::string& full_name,
                                       const std::vector<std::int64_t>& shape) const;

  /// The hyperparameters of a step, by the optimizer's groups. They are those of `optimizer`, the
  /// config's in that step, at the base rate `lr`; each group overrides them, and `rates` the rate.
  [[nodiscard]] std::vector<optim::OptimizerOptions> options(
      const formats::OptimizerConfig& optimizer, double lr, const GroupRates& rates = {}) const;

  /// The rate of a group, by its name, at the base rate `lr`. Throws what check_name throws.
  [[nodiscard]] double lr_of(std::string_view name, double lr, const GroupRates& rates = {}) const;
  /// Throws UsageError for an unknown name; an empty one is the first group's.
  void check_name(std::string_view name) const { static_cast<void>(find(name)); }
  /// Throws ConfigError for a rate that is negative or not finite.
  static void check_lr(double lr);

 private:
  [[nodiscard]] std::size_t find(std::string_view name) const;

  formats::DsConfig config_;
  std::vector<ParameterGroup> groups_;  // the first: all that belong to no other
};

}  // namespace strata::zero3
