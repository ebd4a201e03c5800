#pragma once

#include <cstdint>

#include "models/config_json.h"
#include "strata/models/llama_config.h"

namespace strata::models {

/// Reads how a config.json has positions rotate, in either spelling: "rope_parameters", or
/// "rope_theta" and "rope_scaling". `context` is the model's. Throws ConfigError, naming the key,
/// for two spellings that disagree, a type that is not known, a key that the type does not have and
/// one that it lacks.
[[nodiscard]] RopeConfig read_rope(const KeyReader& keys, std::int64_t context);

/// Sets "rope_theta" and "rope_scaling", which all versions of transformers read.
void write_rope(ConfigWriter& out, const RopeConfig& rope);

/// Throws ConfigError for numbers that give no angles.
void validate_rope(const RopeConfig& rope, std::string_view where);

}  // namespace strata::models
