#pragma once

#include <string_view>

namespace strata::formats {

/// Whether `pattern` matches all of `text`: * stands for any characters, also none, ? for one.
/// Takes at most size-of-pattern times size-of-text steps.
[[nodiscard]] bool matches_pattern(std::string_view pattern, std::string_view text);

}  // namespace strata::formats
