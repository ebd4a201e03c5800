#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "strata/formats/json.h"

namespace strata::formats {

inline constexpr JsonLimits kIndexLimits = {
    .bytes_max = 100'000'000, .depth_max = 8, .values_max = 2'000'000};

/// An index the other way round: name of a file -> the tensors in it, each with its place in the
/// index.
using FilesOfIndex = std::map<std::string, std::vector<JsonValue::Member>>;

/// Reads the text of a model.safetensors.index.json; `name` begins every message.
/// Throws DataError unless every tensor lies in a file with a plain name.
[[nodiscard]] FilesOfIndex parse_model_index(std::string_view text, std::string name);

}  // namespace strata::formats
