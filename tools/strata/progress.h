#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>

#include "step_line.h"

namespace strata::tool {

/// Shows a run as it goes: a step line every `steps_per_print` steps (the first and the last one
/// always) and every evaluation. On a terminal a bar below them is redrawn in place at every step.
class Progress {
 public:
  /// `steps_before` of all steps are of an earlier process.
  Progress(std::ostream& out, bool terminal, std::int64_t steps, std::int64_t steps_per_print,
           std::int64_t steps_before = 0);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Erases the bar, so that the error of a failed run stands on a line of its own.
  ~Progress();

  void step(const StepRecord& record);
  void evaluation(const EvaluationRecord& record);

 private:
  void print_line(const std::string& line);
  void draw_bar(const StepRecord& record);

  std::ostream& out_;
  bool terminal_;
  std::int64_t steps_;
  std::int64_t steps_per_print_;
  std::int64_t steps_before_;
  bool bar_stands_ = false;
  Interval since_last_line_;
  Interval since_start_;
};

/// A duration: "1:05", "2:00:09".
[[nodiscard]] std::string format_duration(double seconds);

}  // namespace strata::tool
