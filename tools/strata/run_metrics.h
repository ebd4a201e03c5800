#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>

#include "metrics.h"
#include "step_record.h"
#include "strata/base/error.h"
#include "strata/base/log.h"
#include "strata/formats/event_file.h"

namespace strata::tool {

/// What a run tells of itself while it goes on: metrics.jsonl, and in the directory `runs` beside
/// it a file of TensorBoard's events, under the tags of Hugging Face's Trainer (train/loss,
/// eval/loss). An event file that cannot be written costs a warning, never the run.
class RunMetrics {
 public:
  /// How far a run had come that goes on: steps, and bytes of metrics.jsonl.
  struct Before {
    std::int64_t steps = 0;
    std::uint64_t bytes = 0;
  };

  /// Makes the files, or goes on with those that are there. Throws IoError where metrics.jsonl
  /// cannot be made. `log` outlives it.
  RunMetrics(const std::filesystem::path& lines, Logger& log, Before before);

  /// The directory of the events of the run whose metrics.jsonl is `lines`.
  [[nodiscard]] static std::filesystem::path events_of(const std::filesystem::path& lines) {
    return lines.parent_path() / "runs";
  }

  void write(const StepRecord& record);
  void write(const EvaluationRecord& record);

  /// Makes the lines so far durable and returns their bytes. Throws IoError.
  std::uint64_t sync() { return lines_.sync(); }

 private:
  void write_event(std::int64_t step, std::span<const formats::EventScalar> scalars);
  void give_up(const IoError& error);

  Logger& log_;
  MetricsFile lines_;
  std::optional<formats::EventFile> events_;  ///< none once it cannot be written
};

}  // namespace strata::tool
