#pragma once

#include <optional>
#include <vector>

#include "strata/base/log.h"
#include "strata/formats/ds_config.h"
#include "strata/zero3/lr_schedule.h"
#include "strata/zero3/step_report.h"
#include "zero3/machinery.h"
#include "zero3/parameter_groups.h"
#include "zero3/ranks/ranks.h"
#include "zero3/training_state.h"
#include "zero3/unit_registry.h"

namespace strata::zero3 {

/// One step of the optimizer over all units (hop 7): the norm of their gradients, clipping, and the
/// update of every parameter that has one, by the machinery's StepThread. Thread: the engine's.
class OptimizerStep {
 public:
  /// The parts that it works with; all of them outlive it.
  struct Parts {
    const formats::DsConfig& config;
    const TrainingState& state;
    const ParameterGroups& groups;
    UnitRegistry& units;
    Machinery& machinery;
    Ranks& ranks;
    Logger& log;
  };
  /// Throws ConfigError for a schedule whose parameters are out of range.
  explicit OptimizerStep(const Parts& parts);

  /// The rate of the next step, where no group says otherwise.
  [[nodiscard]] double base_lr() const;
  /// The factor that a sum over ranks of scaled gradients is multiplied with.
  [[nodiscard]] double unscale() const;

  [[nodiscard]] bool has_gradients() const;
  /// The norm of all gradients of the step, unscaled; nullopt after an overflow, whose unit is
  /// logged.
  [[nodiscard]] std::optional<double> gradient_norm();
  /// The norms of every unit that has gradients.
  [[nodiscard]] std::vector<UnitNorm> gradient_norms();
  /// Drops the step under way: nothing of it counts any more.
  void forget_gradients();

  /// Updates the parameters with their gradients, whose norm is `norm`, at the base rate `lr`: at
  /// once, or where the plan says so, beside what comes next, until StepThread::wait_for. Throws
  /// what UnitMover and StepThread throw, of the step before too.
  void update(double norm, double lr);

 private:
  Parts parts_;
  LrSchedule schedule_;
};

}  // namespace strata::zero3
