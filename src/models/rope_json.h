#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include "models/config_json.h"
#include "strata/models/rope_config.h"

namespace strata::models {

/// What a model type has of RoPE where its config.json says nothing, and how it calls it.
struct RopeDefaults {
  std::int64_t context = 0;  ///< the model's
  double theta = 10000.0;
  std::string_view theta_key = "rope_theta";  ///< beside the object; "rope_theta" may repeat it
  std::string_view share_key;  ///< beside the object, of RopeConfig::share; empty: all rotates
  double share = 1.0;
};

/// Reads how a config.json has positions rotate, in either spelling: "rope_parameters", or
/// "rope_theta" and "rope_scaling". Throws ConfigError, naming the key, for two spellings that
/// disagree, a type that is not known, a key that the type does not have and one that it lacks.
[[nodiscard]] RopeConfig read_rope(const KeyReader& keys, const RopeDefaults& defaults);

/// The same for a type whose layers that slide rotate otherwise than the others: "rope_parameters"
/// with an object for each, or "rope_theta", "rope_scaling" and "rope_local_base_freq". The first
/// is that of layers that do not slide. `defaults` are for those, `sliding_theta` for the others.
[[nodiscard]] std::pair<RopeConfig, RopeConfig> read_ropes_by_layer(const KeyReader& keys,
                                                                    const RopeDefaults& defaults,
                                                                    double sliding_theta);

/// Sets `theta_key` and "rope_scaling", which all versions of transformers read.
void write_rope(ConfigWriter& out, const RopeConfig& rope, const char* theta_key = "rope_theta");

/// Throws ConfigError for numbers that give no angles to a head of this width.
void validate_rope(const RopeConfig& rope, std::int64_t head_width, std::string_view where);

}  // namespace strata::models
