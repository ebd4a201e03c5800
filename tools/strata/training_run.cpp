#include "training_run.h"

namespace strata::tool {

RunOutcome TrainingRun::train(Summary& summary) {
  summary.eval_loss_before = evaluate();
  RunOutcome outcome;
  double seconds = 0;
  const auto is_time_up = [&] {
    return options_.max_minutes && seconds >= *options_.max_minutes * 60;
  };
  for (std::int64_t step = 1; step <= steps_ && !is_time_up(); ++step) {
    if (step > 1 && options_.eval_every > 0 && (step - 1) % options_.eval_every == 0) evaluate();
    const StepRecord record = trainer_.step();
    if (metrics_ != nullptr) metrics_->write(record);
    progress_.step(record);
    seconds += record.interval.seconds;
    outcome.add(record);
  }
  trainer_.end_trace();
  outcome.finish(summary);
  summary.eval_loss_after = evaluate();
  return outcome;
}

std::optional<double> TrainingRun::evaluate() {
  const std::optional<EvaluationRecord> record = trainer_.evaluate();
  if (!record) return std::nullopt;
  if (metrics_ != nullptr) metrics_->write(*record);
  progress_.evaluation(*record);
  return record->loss;
}

}  // namespace strata::tool
