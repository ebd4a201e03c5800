#pragma once

#include <string>
#include <string_view>

#include "strata/base/error.h"
#include "strata/formats/ds_config.h"

namespace strata::formats {

inline DsConfig parse(std::string_view text) { return DsConfig::from_text(text, "ds.json"); }

/// What parsing it throws, or "accepted".
inline std::string error_of(std::string_view text) {
  try {
    (void)parse(text);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace strata::formats
