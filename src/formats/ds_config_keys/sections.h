#pragma once

#include <span>

#include "formats/ds_config_keys.h"

/// \file
/// The parts of the list of keys, a file each. `config_keys()` puts them together.

namespace strata::formats {

/// Batch sizes, progress and clipping.
[[nodiscard]] std::span<const ConfigKey> batch_keys();
[[nodiscard]] std::span<const ConfigKey> optimizer_keys();
[[nodiscard]] std::span<const ConfigKey> scheduler_keys();
/// bf16, fp16, amp and torch_autocast.
[[nodiscard]] std::span<const ConfigKey> precision_keys();
/// zero_optimization, offloading included, and what stands beside it at the top.
[[nodiscard]] std::span<const ConfigKey> zero_keys();
[[nodiscard]] std::span<const ConfigKey> activation_checkpointing_keys();
[[nodiscard]] std::span<const ConfigKey> aio_keys();
/// What DeepSpeed has no word for.
[[nodiscard]] std::span<const ConfigKey> strata_keys();
/// Communication, checkpoints, data_types, and the rest of the top level.
[[nodiscard]] std::span<const ConfigKey> top_level_keys();
/// Logs and profiles.
[[nodiscard]] std::span<const ConfigKey> reporting_keys();
/// Sections of features that are not there and would train something else.
[[nodiscard]] std::span<const ConfigKey> missing_feature_keys();

}  // namespace strata::formats
