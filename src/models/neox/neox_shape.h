#pragma once

#include "models/decoder_layout.h"
#include "strata/models/neox_config.h"

namespace strata::models {

[[nodiscard]] DecoderShape shape_of(const NeoxConfig& config);

}  // namespace strata::models
