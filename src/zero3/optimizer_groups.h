#pragma once

#include <cstdint>
#include <vector>

#include "strata/formats/ds_config.h"
#include "strata/optim_cpu/optimizer_options.h"

namespace strata::zero3 {

// Indices into optimizer_groups, for the segments of shards.
inline constexpr std::uint32_t kDecayGroup = 0;
inline constexpr std::uint32_t kNoDecayGroup = 1;

/// The hyperparameters of a step at the rate `lr`: those of the config, and the same without weight
/// decay.
[[nodiscard]] std::vector<optim::OptimizerOptions> optimizer_groups(
    const formats::OptimizerConfig& config, double lr);

}  // namespace strata::zero3
