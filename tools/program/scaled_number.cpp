#include "scaled_number.h"

#include <charconv>
#include <cmath>
#include <system_error>

#include "strata/base/error.h"

namespace strata::tool {

double parse_scaled(std::string_view text, std::span<const Scale> scales, const std::string& what) {
  const auto fail = [&]() -> ConfigError {
    return ConfigError("\"" + std::string(text) + "\" is not " + what);
  };
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [after, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || !std::isfinite(value) || value <= 0) throw fail();
  std::string unit;
  for (const char* at = after; at != end; ++at) {
    unit += *at >= 'a' && *at <= 'z' ? static_cast<char>(*at - 'a' + 'A') : *at;
  }
  for (const Scale& scale : scales) {
    if (unit == scale.name && std::isfinite(value * scale.factor)) return value * scale.factor;
  }
  throw fail();
}

double parse_parameters(std::string_view text) {
  constexpr Scale kScales[] = {{"", 1},    {"K", 1e3}, {"M", 1e6},
                               {"B", 1e9}, {"G", 1e9}, {"T", 1e12}};
  const std::string what = "a number of parameters; write for example 7e9, 7B or 124M";
  const double count = parse_scaled(text, kScales, what);
  if (count < 1) throw ConfigError("\"" + std::string(text) + "\" is not " + what);
  if (count > 1e15)
    throw ConfigError("\"" + std::string(text) + "\" is beyond any model; at most 1e15");
  return count;
}

}  // namespace strata::tool
