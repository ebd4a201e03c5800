#pragma once

#include <string>
#include <vector>

#include "strata/formats/ds_config.h"
#include "strata/models/model_layout.h"

namespace strata::tool {

/// A line for people about each part of a model that is cut, and whether strata.tile_bytes asked
/// for that or the device budget does; none where nothing is.
[[nodiscard]] std::vector<std::string> tile_lines(const models::ModelTiles& tiles,
                                                  const formats::DsConfig& config);

/// The same of the tiles of a run, before it has directories or memory. Throws ConfigError for a
/// model that is none.
[[nodiscard]] std::vector<std::string> tile_lines(const models::ModelConfig& model,
                                                  const formats::DsConfig& config);

}  // namespace strata::tool
