#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "strata/base/units.h"
#include "strata/tiering/budget.h"
#include "strata/zero3/step_model.h"

/// \file
/// Models and a machine in round figures, for tests of the forecast.

namespace strata::zero3 {

inline constexpr StepOrder kSerial{};
inline constexpr StepOrder kUnderForward{.kind = StepOrder::Kind::kOverlapped};
inline constexpr StepOrder kUnderBackward{.kind = StepOrder::Kind::kOverlapped, .early_share = 1};

/// A plan and what it is for.
struct Model {
  PlanInput input;
  StepWork work;

  [[nodiscard]] double parameters() const {
    double count = 0;
    for (const UnitLayout& unit : input.units) count += static_cast<double>(unit.trainable_count);
    return count;
  }
  [[nodiscard]] StepForecast forecast(const RankSpeeds& speeds, const StepOrder& order) const {
    return forecast_step(make_plan(input), input, work, speeds, order);
  }
  [[nodiscard]] StepForecast best(const RankSpeeds& speeds) const {
    const Plan plan = make_plan(input);
    return forecast_step(plan, input, work, speeds,
                         shortest_overlap(plan, input, work, speeds, /*under_backward=*/true));
  }
};

/// `units` of `elements` parameters in bf16 with everything on nvme, that compute `tokens` at a
/// time with recomputation, on an accelerator.
inline Model model_of(std::size_t units, std::int64_t elements, double tokens) {
  Model model;
  for (std::size_t i = 0; i < units; ++i) {
    UnitLayout& unit = model.input.units.emplace_back();
    unit.name = "h." + std::to_string(i);
    unit.add("weight", {elements}, true);
    const double forward = 2.0 * static_cast<double>(elements) * tokens;
    model.work.uses.push_back({i, forward, 2 * forward, forward});
  }
  model.input.format = Precision::kBf16;
  model.input.device_memory_is_host = false;
  model.input.budgets = {tiering::Budget::kUnlimited, tiering::Budget::kUnlimited,
                         tiering::Budget::kUnlimited};
  return model;
}

/// One unit of 2^19 parameters, whose times on `slow_machine` can be added up by hand.
inline Model one_unit() {
  Model model = model_of(1, 1 << 19, 1);
  model.work.uses = {{.unit = 0, .forward = 3e5, .backward = 6e5, .recompute = 2e5}};
  return model;
}

/// Room on the device for `units` of the model's units.
inline void limit_device(Model& model, std::uint64_t units) {
  PlanInput least = model.input;
  const std::uint64_t smallest = smallest_budgets(least).device;
  const std::uint64_t region = round_up(model.input.units.front().trainable_count * 2, 4096);
  model.input.budgets.device = smallest + (units - 1) * region;
}

/// Four Gen5 disks and a large accelerator, in round figures.
inline RankSpeeds fast_machine() {
  return {.compute = 600e12,
          .disk_read = 27e9,
          .disk_write = 11e9,
          .disk_overlap = 1,
          .upload = 55e9,
          .drain = 55e9,
          .update = 300e9,
          .exchange = 100e9};
}

/// Speeds that all differ.
inline RankSpeeds slow_machine() {
  return {.compute = 1e9,
          .disk_read = 2e9,
          .disk_write = 1e9,
          .upload = 8e9,
          .drain = 4e9,
          .update = 16e9};
}

}  // namespace strata::zero3
