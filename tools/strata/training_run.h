#pragma once

#include <cstdint>
#include <optional>

#include "finetune_options.h"
#include "interruption.h"
#include "progress.h"
#include "run_checkpoints.h"
#include "run_metrics.h"
#include "run_outcome.h"
#include "strata/base/log.h"
#include "strata/zero3/engine.h"
#include "summary.h"
#include "trainer.h"

namespace strata::tool {

/// The run itself: steps and evaluations, shown as they come, and recorded where `metrics` is not
/// null; checkpoints where `checkpoints` is not null and the options ask for some.
class TrainingRun {
 public:
  /// The parts that it works with; all of them outlive it.
  struct Parts {
    std::int64_t steps;
    const FinetuneOptions& options;
    Engine& engine;
    Trainer& trainer;
    Interruption& interruption;
    Progress& progress;
    RunMetrics* metrics;          ///< null on all ranks but the first
    RunCheckpoints* checkpoints;  ///< null: none are saved
    Logger& log;
  };
  explicit TrainingRun(const Parts& parts) : parts_(parts) {}

  /// Trains from `place` on until the steps are done or the time is up. Fills the measured part of
  /// `summary`. Throws what Trainer throws, and Error when no step was applied; Interrupted after a
  /// signal, where checkpoints are saved with one of the last step.
  RunOutcome train(RunPlace place, Summary& summary);

 private:
  std::optional<double> evaluate();
  void make_steps(RunPlace& place);
  bool save(RunPlace& place);
  [[noreturn]] void end(const RunPlace& place, bool is_saved) const;

  Parts parts_;
};

}  // namespace strata::tool
