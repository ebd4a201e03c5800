#pragma once

#include <span>
#include <string>
#include <string_view>

namespace strata::tool {

/// A unit of a number and its factor, in capitals: {"K", 1e3}.
struct Scale {
  std::string_view name;
  double factor;
};

/// Parses a number above 0 with one of `scales`, of any case: "1.5b". Throws ConfigError for
/// anything else: "... is not " and `what`.
[[nodiscard]] double parse_scaled(std::string_view text, std::span<const Scale> scales,
                                  const std::string& what);

/// Parses a number of parameters: "7e9", "7B", "124M", "1T". Throws ConfigError for others, for
/// less than 1 and for more than 1e15.
[[nodiscard]] double parse_parameters(std::string_view text);

}  // namespace strata::tool
