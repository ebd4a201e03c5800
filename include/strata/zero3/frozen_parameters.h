#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "strata/zero3/unit_layout.h"

/// \file
/// The parameters that a config names by patterns (formats/name_pattern.h), in plans. No LibTorch.

namespace strata::formats {
struct DsConfig;
}

namespace strata::zero3 {

/// The units as an engine has them whose "strata.freeze" is `patterns`: parameters whose full names
/// match one are frozen.
[[nodiscard]] std::vector<UnitLayout> with_frozen(const std::vector<UnitLayout>& units,
                                                  std::span<const std::string> patterns);

/// Throws ConfigError, naming key and pattern, where a pattern of "strata.freeze" or
/// "strata.parameter_groups" matches no parameter of `units`. An engine asks that when it prepares.
void check_parameter_patterns(const formats::DsConfig& config, std::span<const UnitLayout> units);

/// Elements of the parameters that are trained.
[[nodiscard]] std::uint64_t trainable_elements(std::span<const UnitLayout> units);

}  // namespace strata::zero3
