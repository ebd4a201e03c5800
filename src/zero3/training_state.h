#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "strata/formats/ds_config.h"
#include "strata/formats/json.h"
#include "strata/zero3/loss_scaler.h"
#include "zero3/parameter_groups.h"

namespace strata::zero3 {

/// The state of a training, beside that of its units: a value. Schedules are functions of the
/// step, so the step is the place in them.
struct TrainingState {
  std::int64_t step = 0;         ///< optimizer steps taken
  std::int64_t micro_steps = 0;  ///< backwards since the last one
  GroupRates rates = {};         ///< rates that set_lr has set
  LossScaler scaler = {};

  /// The state of a run that begins. Throws ConfigError for a loss scale out of range.
  [[nodiscard]] static TrainingState beginning(const formats::DsConfig& config);

  friend bool operator==(const TrainingState&, const TrainingState&) = default;
};

/// The state as a JSON object. Numbers are written so that they are read back bit for bit. Throws
/// UsageError for the name of a group that is not UTF-8.
[[nodiscard]] std::string to_json(const TrainingState& state);

/// The state that `text` says, of a run that began with `fresh`; `name` begins messages.
/// The config's part of the loss scale (its window, its minimum) stays as it is in `fresh`. Throws
/// DataError for a text that is not to_json's or has a number out of range.
[[nodiscard]] TrainingState resumed(TrainingState fresh, std::string_view text,
                                    const std::string& name);
/// The same, of a part of a larger text.
[[nodiscard]] TrainingState resumed(TrainingState fresh, const formats::JsonValue& root);

}  // namespace strata::zero3
