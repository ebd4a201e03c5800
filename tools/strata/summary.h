#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>

#include "step_record.h"

namespace strata::tool {

/// A run, for a person who reads nothing else of it.
struct Summary {
  std::string model;  ///< "gpt-lite"
  std::uint64_t parameters = 0;
  std::int64_t steps = 0;
  std::int64_t skipped_steps = 0;  ///< steps with a gradient not finite: nothing changed
  std::optional<double> eval_loss_before = {};  ///< loss on held-out data, if any
  std::optional<double> eval_loss_after = {};
  double train_loss_first = 0;  ///< loss of the first step
  double train_loss_last = 0;   ///< mean of the last tenth of the steps
  Interval training = {};       ///< the steps, without evaluations
  MemoryReading memory = {};
  std::uint64_t rss_peak_bytes = 0;  ///< most memory of the process
  std::string output;
};

/// Writes the summary as a table.
void print(std::ostream& out, const Summary& summary);

/// The summary as JSON, under Hugging Face's names where there are such.
[[nodiscard]] std::string to_json(const Summary& summary);

/// The most memory this process ever had in use, as the operating system counts it.
[[nodiscard]] std::uint64_t rss_peak_bytes();

}  // namespace strata::tool
