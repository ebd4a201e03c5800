#pragma once

#include <filesystem>

#include "strata/base/log.h"
#include "strata/base/timeline.h"
#include "strata/zero3/engine.h"
#include "trace_steps.h"

namespace strata::tool {

/// Traces some steps of a run: the hops of its engine, the phases of its steps, and the bytes that
/// every tier holds. Make it before the engine; the engine writes to it while it traces.
///
/// A trace that cannot be written costs a warning and never the run.
class StepTrace {
 public:
  /// Traces nothing when `steps` is null. `log` must outlive it.
  StepTrace(const TraceSteps* steps, std::filesystem::path path, Logger& log);

  /// Begins to record before the first traced step. Call before each step, with its number.
  void before_step(std::int64_t step, Engine& engine);
  /// Writes the file after the last one. Call after each step.
  void after_step(std::int64_t step, Engine& engine);
  /// Writes what there is of a run that has ended before that.
  void end(Engine& engine);

  /// Null while nothing is recorded.
  [[nodiscard]] Timeline* timeline() { return records_ ? &timeline_ : nullptr; }
  /// Notes the bytes that every tier holds.
  void sample_tiers(const Engine& engine);

 private:
  void write();

  const TraceSteps* steps_;
  std::filesystem::path path_;
  Logger& log_;
  Timeline timeline_;
  bool records_ = false;
};

}  // namespace strata::tool
