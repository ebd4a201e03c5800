#pragma once

#include "models/decoder_layout.h"
#include "strata/models/llama_config.h"

namespace strata::models {

[[nodiscard]] DecoderShape shape_of(const LlamaConfig& config);

}  // namespace strata::models
