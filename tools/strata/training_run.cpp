#include "training_run.h"

#include <string>

#include "strata/base/error.h"

namespace strata::tool {

RunOutcome TrainingRun::train(RunPlace place, Summary& summary) {
  if (place.steps == 0) place.eval_loss_before = evaluate();
  summary.eval_loss_before = place.eval_loss_before;
  if (parts_.options.saves()) {
    const Interruption::Patience patience(parts_.interruption);
    make_steps(place);
  } else {
    make_steps(place);
  }
  parts_.trainer.end_trace();
  place.outcome.finish(summary);
  summary.eval_loss_after = evaluate();
  return place.outcome;
}

void TrainingRun::make_steps(RunPlace& place) {
  const FinetuneOptions& options = parts_.options;
  const auto is_time_up = [&] {
    return options.max_minutes && place.outcome.seconds() >= *options.max_minutes * 60;
  };
  while (place.steps < parts_.steps && !is_time_up()) {
    if (place.steps > 0 && options.eval_every > 0 && place.steps % options.eval_every == 0) {
      evaluate();
    }
    const StepRecord record = parts_.trainer.step();
    if (parts_.metrics != nullptr) parts_.metrics->write(record);
    parts_.progress.step(record);
    place.outcome.add(record);
    ++place.steps;
    if (!options.saves()) continue;
    const bool is_due = parts_.checkpoints->is_due(place.steps, record.interval.seconds);
    const bool is_saved = (is_due || record.is_last) && save(place);
    if (record.is_last) end(place, is_saved);
  }
}

bool TrainingRun::save(RunPlace& place) {
  if (parts_.metrics != nullptr) {
    try {
      place.metrics_bytes = parts_.metrics->sync();
    } catch (const IoError& error) {
      parts_.log.warning(error.what());  // the checkpoint's own attempt has the last word
    }
  }
  return parts_.checkpoints->save(parts_.engine, place);
}

void TrainingRun::end(const RunPlace& place, bool is_saved) const {
  const char* const signal = parts_.interruption.noted();
  throw Interrupted("ended (" + std::string(signal != nullptr ? signal : "by a signal to a rank") +
                    ") after step " + std::to_string(place.steps) +
                    (is_saved ? "; the same command with --resume goes on from there"
                              : "; that step could not be saved"));
}

std::optional<double> TrainingRun::evaluate() {
  const std::optional<EvaluationRecord> record = parts_.trainer.evaluate();
  if (!record) return std::nullopt;
  if (parts_.metrics != nullptr) parts_.metrics->write(*record);
  parts_.progress.evaluation(*record);
  return record->loss;
}

}  // namespace strata::tool
