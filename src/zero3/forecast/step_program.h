#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "zero3/forecast/activations.h"
#include "zero3/forecast/gradients.h"
#include "zero3/forecast/step_jobs.h"
#include "zero3/forecast/unit_shape.h"
#include "zero3/forecast/weights.h"
#include "zero3/forecast/windows.h"

/// \file
/// The training program: micro-batches, forward and backward through the units, the update.

namespace strata::zero3::forecast {

/// Writes down the jobs of one step after the other.
class StepProgram {
 public:
  /// All must outlive it.
  StepProgram(const Plan& plan, const PlanInput& input, const StepWork& work,
              const RankSpeeds& speeds, const StepOrder& order);

  /// Adds a whole step: its micro-batches, its update (which, overlapped, ends under the next
  /// step), a mark.
  void add_step();

  [[nodiscard]] const StepJobs& jobs() const { return jobs_; }

 private:
  void add_micro_batches();
  void add_batch();
  /// Computes with a unit between its entry and its leaving.
  void enter(std::size_t use, Pass pass, double flop, bool gives_gradients);
  /// Computes forward once more with a use of a span, whose input is brought where it begins.
  void enter_again(std::size_t use, double flop, bool begins_span);
  [[nodiscard]] double backward_flop(std::size_t use) const;
  /// Goes backward through the uses before `end`, of so many micro-batches at a time.
  void add_backward(std::size_t end, double micro_batches, bool is_last);
  /// The span that this use is in, if any.
  [[nodiscard]] const UseSpan* span_of(std::size_t use) const;
  /// Updates an early unit whose last gradient came with this use.
  void update_early(std::size_t use);
  void update(UnitId unit);

  const StepWork& work_;
  const StepOrder order_;
  const std::vector<UnitShape> shapes_;
  std::vector<std::size_t> first_use_;  ///< of each unit in forward: its last in backward
  std::vector<bool> is_early_;          ///< units that are updated under backward
  StepJobs jobs_;
  Weights weights_;
  Activations activations_;
  Gradients gradients_;
  Windows windows_;
  std::optional<UnitId> behind_;  ///< an early unit whose gradients are on their way home
  JobId updated_ = kNoJob;        ///< the end of the last update so far
};

}  // namespace strata::zero3::forecast
