#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "state_bank.h"
#include "strata/base/number_format.h"
#include "strata/optim_cpu/optimizer_options.h"

namespace strata::python {

/// A gradient in the caller's memory.
struct LentGradient {
  const std::byte* data;
  std::uint64_t count;
  Precision format;
};

/// A parameter to update: its weight and gradient, count elements each, in memory that is lent
/// until the update is complete. The gradient has the weight's format or is fp32; it is only read.
struct LentParameter {
  std::size_t index;
  std::byte* weight;
  const std::byte* gradient;
  bool gradient_fp32;
};

/// The norm of all gradients as one vector: the squares' sum is exact and is rounded once, so its
/// bits do not depend on threads or order. No value when a gradient is not finite.
[[nodiscard]] std::optional<double> gradient_norm(optim_cpu::ComputeThreads& threads,
                                                  std::span<const LentGradient> gradients);

/// One step at a time over the parameters of a bank:
///
///     step.begin(groups, scale);
///     ... step.submit(lent) ...      // each parameter at most once, whenever its gradient is there
///     step.finish();
///
/// Submitted parameters are updated while later ones are still to come. Thread: one at a time.
class BankStep {
 public:
  explicit BankStep(StateBank& bank) : bank_(bank) {}

  [[nodiscard]] bool is_open() const { return is_open_; }

  /// `groups`: hyperparameters by BankParameter::group. Gradients are multiplied by
  /// `gradient_scale`. Throws UsageError when a step is open, ConfigError for hyperparameters out
  /// of range, and what WindowPipeline::begin throws; nothing is changed then.
  void begin(const std::vector<optim::OptimizerOptions>& groups, float gradient_scale);

  /// Throws UsageError unless a step is open and has had none of these parameters yet.
  void check(std::span<const LentParameter> parameters) const;

  /// Takes the parameters, which `check` has passed, and does what can be done without waiting for
  /// the disk. Returns the number of parameters of this step that are complete, in the order in
  /// which they were submitted. An error leaves half a step.
  std::size_t submit(std::span<const LentParameter> parameters);

  /// Waits until that many parameters are complete, or all that were submitted; returns how many
  /// are. An error leaves half a step.
  std::size_t wait_for(std::size_t complete);

  /// Waits until all that was submitted is complete, and ends the step. Returns how many that are.
  std::size_t finish();

  /// Ends a step that has failed, or is open: no memory is lent any more. Drops errors.
  void abandon();

 private:
  void offer(optim_cpu::ShardStates& shard, std::uint32_t group);
  void advance();
  void collect();
  [[nodiscard]] std::uint32_t update_group_of(const BankParameter& parameter) const;

  /// A parameter on its way.
  struct Submitted {
    std::size_t index;
    std::byte* weight;
    std::uint64_t shards_until;  ///< shards offered in this step up to its last one
  };

  StateBank& bank_;
  bool is_open_ = false;
  std::map<std::pair<std::uint32_t, std::int64_t>, std::uint32_t> group_indices_;
  std::vector<bool> is_submitted_;
  std::deque<Submitted> under_way_;
  std::uint64_t offered_ = 0;
  std::size_t complete_ = 0;
};

}  // namespace strata::python
