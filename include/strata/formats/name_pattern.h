#pragma once

#include <span>
#include <string>
#include <string_view>

namespace strata::formats {

/// Whether `pattern` matches all of `text`: * stands for any characters, also none, ? for one, and
/// [0-35] for one of those in brackets.
/// Takes at most size-of-pattern times size-of-text steps.
[[nodiscard]] bool matches_pattern(std::string_view pattern, std::string_view text);

/// Whether a pattern matches a parameter's full name or the rest of it after one of its dots.
[[nodiscard]] bool matches_any_pattern(std::span<const std::string> patterns,
                                       std::string_view full_name);

}  // namespace strata::formats
