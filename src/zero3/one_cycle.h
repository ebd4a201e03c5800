#pragma once

#include <cstdint>
#include <optional>

#include "strata/formats/ds_config.h"

namespace strata::zero3 {

/// DeepSpeed's OneCycle. `index` counts the scheduler's own steps from 0; -1 is before the first.
[[nodiscard]] double one_cycle_rate(const formats::SchedulerConfig& config, std::int64_t index);

/// The first beta, which falls while the rate rises; the second is kOneCycleBeta2.
[[nodiscard]] double one_cycle_momentum(const formats::SchedulerConfig& config, std::int64_t index);

inline constexpr double kOneCycleBeta2 = 0.99;

}  // namespace strata::zero3
