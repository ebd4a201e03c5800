#pragma once

#include <functional>
#include <string_view>

#include "models/config_json.h"

namespace strata::models {

/// Refuses what a config.json asks for that other models have and that would change the numbers: a
/// key that is not the model type's own (`is_own`) and has another value than the one with which it
/// changes nothing. Throws ConfigError with the key.
void require_no_foreign_features(const KeyReader& keys, std::string_view model_type,
                                 const std::function<bool(std::string_view key)>& is_own);

}  // namespace strata::models
