#pragma once

#include <string>
#include <string_view>

#include "strata/formats/json.h"

/// \file
/// Language models within larger ones (images and text), whose config.json has theirs under
/// "text_config".

namespace strata::models {

/// Whether it is the config.json of a larger model: of a type that is none of
/// ModelConfig::model_types, with an object "text_config".
[[nodiscard]] bool has_text_part(const formats::JsonValue& config);
[[nodiscard]] bool has_text_part(std::string_view config_text, std::string_view where);

/// The text of the config.json that the language model would have on its own. `where` begins
/// messages. Throws ConfigError, naming the key, where it has no type, where the larger model is
/// quantized, and where the two differ in whether the head is the embedding.
[[nodiscard]] std::string text_part(std::string_view config_text, std::string_view where);

/// The config.json of the larger model, whose language model's config was `text_part(original)` and
/// is `part` now, with weights of the format `dtype`. What is not of these stays.
[[nodiscard]] std::string with_text_part(std::string_view original, std::string_view part,
                                         std::string_view dtype);

}  // namespace strata::models
