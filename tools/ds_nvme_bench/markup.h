#pragma once

#include <string>
#include <string_view>

namespace strata::bench {

/// `text` for HTML and SVG, as content and as the value of an attribute in double quotes. Control
/// characters, which no document may hold, become spaces.
[[nodiscard]] std::string escape_markup(std::string_view text);

}  // namespace strata::bench
