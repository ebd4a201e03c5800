#include <cmath>

#include "models/random_values.h"
#include "strata/models/gpt2.h"

namespace strata::models {

ParameterInitializer random_initializer(const Gpt2Config& config, std::uint64_t seed) {
  const double range = config.initializer_range;
  const double residual_range = range / std::sqrt(2.0 * static_cast<double>(config.n_layer));
  return random_values(seed, [=](const std::string& name) -> InitialValues {
    if (name.ends_with(".bias")) return {InitialValues::Kind::kZeros};
    if (name.ends_with("ln_1.weight") || name.ends_with("ln_2.weight") ||
        name.ends_with("ln_f.weight")) {
      return {InitialValues::Kind::kOnes};
    }
    const bool into_residual = name.ends_with("c_proj.weight");
    return {InitialValues::Kind::kNormal, into_residual ? residual_range : range};
  });
}

}  // namespace strata::models
