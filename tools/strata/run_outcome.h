#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "step_record.h"
#include "strata/formats/json.h"
#include "summary.h"

namespace strata::tool {

/// The outcome of a run's steps, and whether it may be called a success: a run that changed
/// nothing is none.
class RunOutcome {
 public:
  /// Throws Error when so many steps from the first one on were skipped that no later one will be
  /// better: the weights are still those of the beginning.
  void add(const StepRecord& record);

  /// Throws Error when no step was applied. Fills the steps' part of `summary`.
  void finish(Summary& summary) const;

  /// Warnings for a person about a run that ended well: a learning rate of 0 or skipped steps for
  /// more than half of it, gradients of 0 all along.
  [[nodiscard]] std::vector<std::string> warnings() const;

  /// Seconds of all steps so far.
  [[nodiscard]] double seconds() const { return training_.seconds; }

  friend std::string to_json(const RunOutcome& outcome);
  friend RunOutcome outcome_of(const formats::JsonValue& root);

 private:
  [[noreturn]] void fail() const;

  std::vector<double> losses_;
  std::int64_t skipped_ = 0;
  std::int64_t without_rate_ = 0;
  bool has_gradient_ = false;
  Interval training_;
  MemoryReading memory_;
};

/// An outcome so far as a JSON object, and back: for a run that goes on. A loss that is not finite
/// comes back as NaN, and the bytes that tiers held are those of the steps to come. Throws
/// DataError.
[[nodiscard]] std::string to_json(const RunOutcome& outcome);
[[nodiscard]] RunOutcome outcome_of(const formats::JsonValue& root);

}  // namespace strata::tool
