#pragma once

#include <cstdint>
#include <optional>

#include "finetune_options.h"
#include "metrics.h"
#include "progress.h"
#include "run_outcome.h"
#include "summary.h"
#include "trainer.h"

namespace strata::tool {

/// The run itself: steps and evaluations, shown as they come, and recorded where `metrics` is not
/// null. All its arguments must outlive it.
class TrainingRun {
 public:
  TrainingRun(std::int64_t steps, const FinetuneOptions& options, Trainer& trainer,
              Progress& progress, MetricsFile* metrics)
      : steps_(steps),
        options_(options),
        trainer_(trainer),
        progress_(progress),
        metrics_(metrics) {}

  /// Trains until the steps are done or the time is up. Fills the measured part of `summary`.
  /// Throws what Trainer throws, and Error when no step was applied.
  RunOutcome train(Summary& summary);

 private:
  std::optional<double> evaluate();

  std::int64_t steps_;
  const FinetuneOptions& options_;
  Trainer& trainer_;
  Progress& progress_;
  MetricsFile* metrics_;
};

}  // namespace strata::tool
