#pragma once

#include <vector>

#include "strata/zero3/plan.h"
#include "strata/zero3/step_model.h"
#include "zero3/forecast/unit_shape.h"

/// \file
/// What a step takes at least because it needs its own updates: `StepForecast::cycle_seconds`.

namespace strata::zero3::forecast {

/// The longest of the cycles from a unit's use over its update to its next use, in seconds. All
/// lanes that the step needs have speeds. `updating`: seconds of its lane StepLane::kUpdate.
[[nodiscard]] double update_cycle(const Plan& plan, const PlanInput& input,
                                  const std::vector<UnitShape>& shapes, const StepWork& work,
                                  const RankSpeeds& speeds, const StepOrder& order,
                                  double updating);

}  // namespace strata::zero3::forecast
