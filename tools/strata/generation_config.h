#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "strata/formats/model_directory.h"

namespace strata::tool {

/// What a model's files say of how its texts are made.
struct GenerationConfig {
  /// The tokens that end a text: "eos_token_id" of generation_config.json, or of config.json where
  /// that has none.
  std::vector<std::int64_t> stop_tokens;
  /// Keys of generation_config.json that would change which tokens are chosen and are not followed
  /// here: "repetition_penalty", say.
  std::vector<std::string> not_followed;
  /// Of those that options name: "temperature 0.6", where it asks for draws.
  std::vector<std::string> proposed;
};

/// Reads it. Throws DataError for a generation_config.json that is no JSON object, or an
/// "eos_token_id" that is no token; IoError.
[[nodiscard]] GenerationConfig read_generation_config(const formats::ModelDirectory& directory);

}  // namespace strata::tool
