#include "run_metrics.h"

#include <array>
#include <chrono>
#include <string>

namespace strata::tool {
namespace {

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

RunMetrics::RunMetrics(const std::filesystem::path& lines, Logger& log, Before before)
    : log_(log), lines_(lines, log, before.bytes) {
  try {
    events_.emplace(events_of(lines), seconds_since_1970(), before.steps);
  } catch (const IoError& error) {
    give_up(error);
  }
}

void RunMetrics::write(const StepRecord& record) {
  lines_.write(record);
  write_event(
      record.step,
      std::array{
          formats::EventScalar{"train/loss", record.loss},
          formats::EventScalar{"train/grad_norm", record.grad_norm},
          formats::EventScalar{"train/learning_rate", record.lr},
          formats::EventScalar{"train/epoch", record.epoch},
          formats::EventScalar{"train/tokens_per_second", record.interval.tokens_per_second()},
          formats::EventScalar{"train/bound_share", record.interval.bound_share()},
          formats::EventScalar{"train/wait_share", record.interval.disk_wait_share()},
      });
}

void RunMetrics::write(const EvaluationRecord& record) {
  lines_.write(record);
  write_event(record.step, std::array{formats::EventScalar{"eval/loss", record.loss},
                                      formats::EventScalar{"eval/runtime", record.seconds}});
}

void RunMetrics::write_event(std::int64_t step, std::span<const formats::EventScalar> scalars) {
  if (!events_) return;
  try {
    events_->write(step, seconds_since_1970(), scalars);
  } catch (const IoError& error) {
    give_up(error);
  }
}

void RunMetrics::give_up(const IoError& error) {
  events_.reset();
  log_.warning(std::string(error.what()) +
               "; the run goes on, and TensorBoard's events end here; metrics.jsonl has all of it");
}

}  // namespace strata::tool
