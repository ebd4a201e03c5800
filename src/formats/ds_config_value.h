#pragma once

#include "formats/ds_config_keys.h"
#include "strata/formats/ds_config.h"
#include "strata/formats/json.h"

namespace strata::formats {

/// Stores `value` where `target` says, after checking its type and range. Throws ConfigError.
void store_value(const KeyTarget& target, const JsonValue& value, DsConfig& config);

}  // namespace strata::formats
