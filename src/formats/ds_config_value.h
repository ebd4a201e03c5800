#pragma once

#include "formats/ds_config_keys.h"
#include "strata/formats/ds_config.h"
#include "strata/formats/json.h"

namespace strata::formats {

/// Stores `value` where the key's target says, after checking its type and range. Throws
/// ConfigError.
void store_value(const ConfigKey& key, const JsonValue& value, DsConfig& config);

}  // namespace strata::formats
