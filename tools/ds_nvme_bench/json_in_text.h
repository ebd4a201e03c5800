#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace strata::bench {

/// JSON among what a program printed before and after it.
struct JsonInText {
  std::vector<nlohmann::json> objects;  ///< at least one, in their order
  std::vector<std::string> lines;       ///< all others that are not empty
};

/// An object begins with the first `{` of a line; where no line begins so, with the first `{`.
/// `name` is for messages. Throws DataError for a text without an object, for one that ends before
/// its object does, and for an object that is not JSON.
[[nodiscard]] JsonInText find_json(std::string_view text, const std::string& name);

}  // namespace strata::bench
