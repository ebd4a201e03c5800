#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "finetune_options.h"
#include "interruption.h"
#include "run_facts.h"
#include "run_outcome.h"
#include "strata/base/log.h"
#include "strata/zero3/engine.h"

namespace strata::tool {

/// Where a run stands between two steps: all that it needs beside the engine to go on.
struct RunPlace {
  std::int64_t steps = 0;  ///< done; they say which batches come next
  RunOutcome outcome = {};
  std::optional<double> eval_loss_before = {};
  std::uint64_t metrics_bytes = 0;  ///< lines of metrics.jsonl so far
};

/// The checkpoints of a run of `strata finetune`: when they are saved, and what a run goes on from.
/// All ranks make the same calls.
class RunCheckpoints {
 public:
  /// Finds the checkpoint that a run of these facts goes on from, if it is to. Throws ConfigError,
  /// naming what differs, for one of a run with other numbers, and when a run that begins afresh
  /// would mix with checkpoints of another; what find_checkpoint throws; DataError for a
  /// checkpoint that `strata finetune` did not write. The options, the interruption and `log`
  /// outlive it.
  RunCheckpoints(const FinetuneOptions& options, RunFacts facts, const Interruption& interruption,
                 Logger& log);

  [[nodiscard]] const std::filesystem::path& directory() const { return directory_; }
  /// metrics.jsonl while the run goes on, which a killed process does not take with it.
  [[nodiscard]] std::filesystem::path metrics_path() const { return directory_ / "metrics.jsonl"; }
  /// The place that the run goes on from; the beginning where there is none.
  [[nodiscard]] const RunPlace& place() const { return place_; }

  /// Makes the directory. Throws IoError.
  void make_directory() const;
  /// Brings the engine to `place()`. Throws what Engine::load_checkpoint throws.
  void load(Engine& engine) const;

  /// Counts a step that took so long. True: it is time to save.
  [[nodiscard]] bool is_due(std::int64_t step, double seconds);
  /// Saves. What the disk does not take costs a warning, and is false.
  bool save(Engine& engine, const RunPlace& place);

 private:
  const FinetuneOptions& options_;
  RunFacts facts_;
  const Interruption& interruption_;
  Logger& log_;
  std::filesystem::path directory_;
  std::optional<CheckpointInfo> found_;
  RunPlace place_;
  double seconds_since_save_ = 0;
};

}  // namespace strata::tool
