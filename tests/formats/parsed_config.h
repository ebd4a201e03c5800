#pragma once

#include <string>
#include <string_view>

#include "strata/base/error.h"
#include "strata/formats/ds_config.h"
#include "support/message_of.h"

namespace strata::formats {

inline DsConfig parse(std::string_view text) { return DsConfig::from_text(text, "ds.json"); }

/// The message of what parsing it throws, or kNothingThrown.
inline std::string error_of(std::string_view text) {
  return support::message_of<ConfigError>([&] { (void)parse(text); });
}

}  // namespace strata::formats
