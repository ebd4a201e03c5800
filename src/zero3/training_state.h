#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "strata/formats/ds_config.h"
#include "strata/zero3/loss_scaler.h"
#include "zero3/parameter_groups.h"

namespace strata::zero3 {

/// Where a training stands, beside what its units hold: a value. Schedules are functions of the
/// step, so the step is the place in them.
struct TrainingState {
  std::int64_t step = 0;         ///< optimizer steps taken
  std::int64_t micro_steps = 0;  ///< backwards since the last one
  GroupRates rates = {};         ///< of set_lr
  LossScaler scaler = {};

  /// Of a run that begins. Throws ConfigError for a loss scale out of range.
  [[nodiscard]] static TrainingState beginning(const formats::DsConfig& config);

  friend bool operator==(const TrainingState&, const TrainingState&) = default;
};

/// The state as a JSON object. Numbers are written so that they are read back bit for bit.
[[nodiscard]] std::string to_json(const TrainingState& state);

/// `fresh`, the state that a run begins with, gone on to where `text` says; `name` begins messages.
/// What a config says of the loss scale (its window, its minimum) stays as it is in `fresh`. Throws
/// DataError for a text that is not to_json's or has a number out of range.
[[nodiscard]] TrainingState resumed(TrainingState fresh, std::string_view text,
                                    const std::string& name);

}  // namespace strata::zero3
