#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "generate_options.h"
#include "strata/formats/ds_config.h"

namespace strata::tool {

/// The config of `strata generate`: the file's, or one that computes in the format that the model's
/// config.json (`model_config`) names, with weights on nvme where --nvme is given and else in host
/// memory; the command line over it. What only training needs (optimizer states, accumulation, room
/// for activations) is taken out. Throws ConfigError, IoError.
[[nodiscard]] formats::DsConfig generate_config(const GenerateOptions& options,
                                                std::string_view model_config);

/// The bytes of --kv-budget. Throws ConfigError for text that is no size, or zero.
[[nodiscard]] std::optional<std::uint64_t> kv_budget(const GenerateOptions& options);

}  // namespace strata::tool
