#pragma once

#include <optional>

namespace strata::models {

/// What attention makes of the product of a query and a key before it weighs values with it.
struct AttentionScores {
  std::optional<double> scale;     ///< it is multiplied by; nullopt: 1 / sqrt(width of a head)
  std::optional<double> soft_cap;  ///< c, where what comes of that, s, becomes c tanh(s / c)
};

}  // namespace strata::models
