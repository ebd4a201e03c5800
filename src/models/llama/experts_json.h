#pragma once

#include "models/config_json.h"
#include "strata/models/llama_config.h"

namespace strata::models {

/// Reads what a config.json of Mixtral's or Qwen3-MoE's says of experts, into a config whose type
/// and number of layers are set. Throws ConfigError, naming the key, for what would change the
/// numbers and is not there: a loss of the routers, noise, layers of another kind.
void read_experts(LlamaConfig& config, const KeyReader& keys);

/// Writes it.
void write_experts(ConfigWriter& out, const LlamaConfig& config);

}  // namespace strata::models
