#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "strata/base/log.h"
#include "strata/formats/ds_config.h"
#include "strata/zero3/lr_schedule.h"
#include "strata/zero3/step_report.h"
#include "zero3/machinery.h"
#include "zero3/parameter_groups.h"
#include "zero3/ranks/ranks.h"
#include "zero3/state_editor.h"
#include "zero3/training_state.h"
#include "zero3/unit_registry.h"

namespace strata::zero3 {

/// The optimizer's groups of one step: hyperparameters and a count of steps, each pair once.
class StepGroups {
 public:
  /// `options` are those of the groups of parameters.
  StepGroups(std::vector<optim::OptimizerOptions> options, float gradient_scale);
  /// Adds the group that the parameter is in, if it is new.
  void add(const TrainableParameter& parameter);
  /// The index of the parameter's group, which was added; kNotUpdated without a gradient.
  [[nodiscard]] std::uint32_t index_of(const TrainableParameter& parameter) const;
  [[nodiscard]] const std::vector<optim_cpu::UpdateGroup>& groups() const { return groups_; }

 private:
  std::vector<optim::OptimizerOptions> options_;
  float gradient_scale_;
  std::vector<optim_cpu::UpdateGroup> groups_;
  std::map<std::pair<std::uint32_t, std::int64_t>, std::uint32_t> indices_;
};

/// Thrown where a unit was to be updated early; OptimizerStep::refuse has the words, once no unit
/// is in use.
struct NonfiniteGradient {};

/// One step of the optimizer over all units (hop 7): the norm of their gradients, clipping, and the
/// update of every parameter that has one, by the machinery's StepThread. Without clipping, units
/// can be updated as their gradients come. Thread: the engine's.
class OptimizerStep {
 public:
  /// The parts that it works with; all of them outlive it.
  struct Parts {
    const formats::DsConfig& config;
    const TrainingState& state;
    const ParameterGroups& groups;
    UnitRegistry& units;
    Machinery& machinery;
    StateEditor& editor;
    Ranks& ranks;
    Logger& log;
  };
  /// Throws ConfigError for a schedule whose parameters are out of range, for updates under
  /// backward with what has to know all gradients first, and for fp16 that must not skip.
  explicit OptimizerStep(const Parts& parts);

  /// The rate of the next step, where no group says otherwise.
  [[nodiscard]] double base_lr() const;
  /// The factor that a sum over ranks of scaled gradients is multiplied with.
  [[nodiscard]] double unscale() const;

  [[nodiscard]] bool has_gradients() const;
  /// The norm of all gradients of the step, unscaled; nullopt when one of them is not finite.
  [[nodiscard]] std::optional<double> gradient_norm();
  /// The norms of every unit that has gradients.
  [[nodiscard]] std::vector<UnitNorm> gradient_norms();
  /// Drops the step under way: nothing of it counts any more.
  void forget_gradients();

  /// Updates the parameters with their gradients, whose norm is `norm`, at the base rate `lr`: at
  /// once, or where the plan says so, beside what comes next, until StepThread::wait_for. Units
  /// that were updated early are left out. Throws what UnitMover and StepThread throw, of the step
  /// before too.
  void update(double norm, double lr);

  /// Whether `update_early` may be called: the config asks for it, and the plan lets steps go on
  /// beside other work.
  [[nodiscard]] bool updates_early() const;
  /// Begins to update one unit whose gradients of the step are complete, before those of others
  /// are; it is not in use. Where gradients leave the device while the next unit computes
  /// (GradientCoordinator::are_behind), it begins when those of the next one are complete, or with
  /// `update`. Throws what `update` throws, NonfiniteGradient for a gradient that is not finite.
  void update_early(Unit& unit, double lr);
  /// Tells that a step failed. If units of it were updated, that is for good: no step is made any
  /// more.
  void give_up();
  /// Skips the step, as a gradient is not finite, with a warning, or refuses it, as the config
  /// says.
  void skip();
  /// Throws DataError that names the first parameter whose gradient is not finite, and the units
  /// that were updated under backward, if any. The gradients are dropped; no unit is in use.
  [[noreturn]] void refuse();
  /// Throws DataError if a gradient of the step under way is not finite and `skip` would refuse.
  void check_gradients_for_checkpoint();

 private:
  [[nodiscard]] std::string first_nonfinite();
  [[nodiscard]] std::string units_updated() const;
  void begin(double lr, double scale);
  void submit(Unit& unit);
  void submit_early(Unit& unit, double lr);

  Parts parts_;
  LrSchedule schedule_;
  std::optional<StepGroups> groups_;  // of the step that was begun
  std::vector<bool> is_submitted_;    // by unit
  Unit* behind_ = nullptr;            // to be updated early, gradients on their way home
};

}  // namespace strata::zero3
