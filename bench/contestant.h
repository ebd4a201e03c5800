#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "strata/base/counters.h"
#include "strata/base/log.h"

/// \file
/// The contestants of the step benchmark: ways to train the same model on the same batches.

namespace strata::bench {

/// The job, the same for every contestant.
struct Job {
  std::string preset = "gpt2";          ///< shape; its vocabulary is rounded up to a multiple of 64
  std::int64_t tokens = 128;            ///< of a micro-batch, one sequence
  std::int64_t micro_batches = 1;       ///< of a step
  std::filesystem::path nvme = ".";     ///< directory for the nvme tier
  std::uint64_t host_budget_bytes = 0;  ///< budget of the contestant on nvme
  std::uint64_t device_budget_bytes = 0;
  std::int64_t threads = 0;  ///< of Strata's optimizer; 0: one a core
};

/// One way to train it. Made in a process of its own, so that its memory is its own.
class Contestant {
 public:
  virtual ~Contestant() = default;

  /// One optimizer step; returns the loss of its last micro-batch.
  virtual double step() = 0;

  /// Waits for what the last step has left to be done beside the next one.
  virtual void finish() {}

  /// The work of the hops so far; zeros where there are none.
  [[nodiscard]] virtual CounterReading counters() const { return {}; }
};

/// A contestant's name and what it is.
struct ContestantKind {
  std::string_view name;
  std::string_view description;
  std::unique_ptr<Contestant> (*make)(const Job& job, Logger& log);
};

/// All of them: those in memory first, then Strata's, then a program that trains nothing.
[[nodiscard]] const std::vector<ContestantKind>& contestant_kinds();

/// Throws UsageError for a name that there is not.
[[nodiscard]] const ContestantKind& contestant_kind(std::string_view name);

}  // namespace strata::bench
