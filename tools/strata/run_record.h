#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "strata/base/hop.h"
#include "strata/zero3/plan.h"

namespace strata::tool {

/// A hop in one step. What a line does not have is empty.
struct HopRecord {
  double busy_seconds = 0;
  double wait_seconds = 0;
  std::optional<std::uint64_t> bytes;
};

/// What metrics.jsonl says of one step. A number that was not finite is NaN.
struct RunStep {
  std::int64_t step = 0;
  double loss = 0;
  double learning_rate = 0;
  double seconds = 0;
  double tokens_per_second = 0;
  zero3::TierBytes held;
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;
  std::uint64_t gathered_bytes = 0;  ///< weights and gradients from other ranks, to each rank
  std::uint64_t reduced_bytes = 0;
  double wait_share = 0;
  std::optional<std::array<HopRecord, kHopCount>> hops;
  std::optional<double> bound_share;  ///< the least time of such a step over its time
  std::string binds;                  ///< the resource that sets the least time; may be empty
};

struct RunEvaluation {
  std::int64_t step = 0;
  double loss = 0;
};

/// A run, as its metrics.jsonl tells it.
struct RunRecord {
  std::string name;            ///< of its directory
  std::vector<RunStep> steps;  ///< at least one
  std::vector<RunEvaluation> evaluations;
};

/// Reads the metrics of the run in `directory`, also of one that is going on. Throws ConfigError
/// for a directory without a run; DataError, naming the line, for one that is damaged and for
/// metrics without a step; IoError.
[[nodiscard]] RunRecord read_run(const std::filesystem::path& directory);

}  // namespace strata::tool
