#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "strata/aio/path_speed.h"
#include "strata/base/log.h"
#include "strata/base/number_format.h"
#include "strata/base/units.h"
#include "strata/formats/ds_config.h"
#include "strata/models/micro_batch.h"
#include "strata/models/model_config.h"
#include "strata/zero3/machine.h"

/// \file
/// The machine that this runs on, measured for a run: every number with how and when.

namespace strata::tool {

/// The run that a machine is measured for.
struct MeasuredRun {
  const formats::DsConfig& config;  ///< its nvme directories are measured; its batch is resolved
  const models::ModelConfig& model;
  models::MicroBatch micro_batch;
};

/// Is called between parts of a measurement; what it throws ends it.
using Check = std::function<void()>;

/// Forward and backward, to be measured.
struct ArithmeticTask {
  models::ModelConfig model;
  models::MicroBatch micro_batch;
  Precision precision = Precision::kFp32;
  bool recompute = true;           ///< blocks run forward twice
  bool sums_gradients = false;     ///< of micro-batches, in fp32, as a step of several does
  std::uint64_t memory_bytes = 0;  ///< that it may take
};

/// Measures FLOP/s as `models::step_work` counts them, and says how ("2 of 12 blocks, ..."). The
/// seam to LibTorch: all else here needs none.
using MeasureArithmetic = std::function<zero3::SourcedNumber(const ArithmeticTask&, const Check&)>;

/// How much is measured. The defaults take some seconds.
struct MeasuringEffort {
  aio::PathLoad disk{};
  std::uint64_t update_bytes = 1_GiB;  ///< of states: beyond the caches
  std::uint64_t copy_bytes = 256_MiB;
  std::chrono::milliseconds time{400};  ///< of the update, and of the copy, at least
};

/// Measures, one after the other so that none disturbs another: the disks of the config's
/// directories, where it has some, the optimizer's update of states in the run's formats by the
/// threads that the config allows, a copy within host memory, forward and backward; and looks at
/// what memory and room there are. Takes at most half of the available memory. There is no
/// accelerator: the device is host memory. Leaves nothing behind, whatever way it ends.
///
/// `log` hears of the I/O engine that was chosen. Throws ConfigError for directories that cannot be
/// used, BudgetError where there is no memory to measure with, IoError and DeadlineExceeded from
/// the disk, and what `arithmetic` and `check` throw.
[[nodiscard]] zero3::Machine machine_here(const MeasuredRun& run,
                                          const MeasureArithmetic& arithmetic, const Check& check,
                                          Logger& log, const MeasuringEffort& effort = {});

}  // namespace strata::tool
