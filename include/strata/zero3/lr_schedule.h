#pragma once

#include <cstdint>
#include <string>

#include "strata/formats/ds_config.h"

namespace strata::zero3 {

/// The learning rate of every optimizer step, as DeepSpeed's WarmupLR, WarmupDecayLR,
/// WarmupCosineLR, OneCycle and LRRangeTest give it (deepspeed/runtime/lr_schedules.py). As there,
/// the first step is taken before the schedule has started, or with the optimizer's rate when the
/// schedule begins later (last_batch_iteration). Also those of transformers' get_scheduler that
/// SchedulerType has, which have started with the first step. Without a scheduler the rate is the
/// optimizer's. A pure function: nothing to save or restore.
class LrSchedule {
 public:
  /// `base_lr` is the optimizer's rate. Throws ConfigError for parameters out of range.
  LrSchedule(const formats::SchedulerConfig& config, double base_lr);

  /// The rate of optimizer step `step`, counted from 1.
  [[nodiscard]] double at(std::int64_t step) const;

  /// `optimizer` with the betas of optimizer step `step`: OneCycle moves them unless cycle_momentum
  /// is false; every other schedule leaves them as they are.
  [[nodiscard]] formats::OptimizerConfig with_momentum(const formats::OptimizerConfig& optimizer,
                                                       std::int64_t step) const;

 private:
  formats::SchedulerConfig config_;
  double base_lr_;
};

}  // namespace strata::zero3
