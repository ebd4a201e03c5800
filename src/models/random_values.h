#pragma once

#include <functional>
#include <span>
#include <string>

#include "strata/zero3/sharding.h"

namespace strata::models {

/// What values parameters begin with.
struct InitialValues {
  enum class Kind { kZeros, kOnes, kNormal, kUniform };
  Kind kind = Kind::kNormal;
  double deviation = 0;  ///< of kNormal; of kUniform the bound, on both sides of 0
};

/// Fills every parameter with what `values_of` says for its full name. Random values depend on
/// `seed` and the name only: neither on the order of parameters nor on where they live.
[[nodiscard]] ParameterInitializer random_values(
    std::uint64_t seed, std::function<InitialValues(const std::string& name)> values_of);

}  // namespace strata::models
