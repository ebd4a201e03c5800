#include "strata/zero3/frozen_parameters.h"

#include <algorithm>
#include <cstddef>

#include "strata/base/error.h"
#include "strata/formats/ds_config.h"
#include "strata/formats/name_pattern.h"

namespace strata::zero3 {
namespace {

bool matches_one(const std::string& pattern, std::span<const UnitLayout> units) {
  return std::ranges::any_of(units, [&](const UnitLayout& unit) {
    return std::ranges::any_of(unit.parameters, [&](const ParameterLayout& parameter) {
      return formats::matches_any_pattern(std::span(&pattern, 1), unit.full_name(parameter));
    });
  });
}

void check(const formats::DsConfig& config, const std::string& key,
           const std::vector<std::string>& patterns, std::span<const UnitLayout> units) {
  for (const std::string& pattern : patterns) {
    if (matches_one(pattern, units)) continue;
    std::string example;
    if (!units.empty() && !units.front().parameters.empty()) {
      example = " like " + units.front().full_name(units.front().parameters.front());
    }
    throw ConfigError(config.name + ": " + key + ": the pattern \"" + pattern +
                      "\" matches no parameter of the model, whose names are" + example +
                      "; correct it or leave it out");
  }
}

}  // namespace

std::vector<UnitLayout> with_frozen(const std::vector<UnitLayout>& units,
                                    std::span<const std::string> patterns) {
  if (patterns.empty()) return units;
  std::vector<UnitLayout> frozen;
  for (const UnitLayout& unit : units) {
    UnitLayout& layout = frozen.emplace_back();
    layout.name = unit.name;
    for (const ParameterLayout& parameter : unit.parameters) {
      const bool trains =
          parameter.trainable && !formats::matches_any_pattern(patterns, unit.full_name(parameter));
      layout.add(parameter.name, parameter.shape, trains, parameter.fp32);
    }
  }
  return frozen;
}

void check_parameter_patterns(const formats::DsConfig& config, std::span<const UnitLayout> units) {
  check(config, "strata.freeze", config.strata.freeze, units);
  for (std::size_t i = 0; i < config.strata.parameter_groups.size(); ++i) {
    check(config, "strata.parameter_groups[" + std::to_string(i) + "].params",
          config.strata.parameter_groups[i].params, units);
  }
}

std::uint64_t trainable_elements(std::span<const UnitLayout> units) {
  std::uint64_t count = 0;
  for (const UnitLayout& unit : units) {
    for (const ParameterLayout& parameter : unit.parameters) {
      if (parameter.trainable) count += parameter.count;
    }
  }
  return count;
}

}  // namespace strata::zero3
