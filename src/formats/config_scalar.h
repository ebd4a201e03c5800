#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "strata/formats/json.h"

/// \file
/// Numbers and booleans of a config, which may stand in quotes: "16", "1e-4", "false". DeepSpeed
/// reads them that way, and its own tuner prints them that way.

namespace strata::formats {

/// ASCII letters in lower case; what else there is stays.
[[nodiscard]] std::string lower_case(std::string_view text);

/// The number that the whole of `text` is, in JSON's notation; nullopt: it is none.
[[nodiscard]] std::optional<double> number_in(std::string_view text);

/// true, yes, on, t, y and 1, their opposites, in any case; nullopt: neither.
[[nodiscard]] std::optional<bool> boolean_in(std::string_view text);

/// The value, or an error of `value` that says what was expected. A number counts as a boolean when
/// it is 0 or 1.
[[nodiscard]] bool bool_of(const JsonValue& value);
[[nodiscard]] double double_of(const JsonValue& value);
[[nodiscard]] std::int64_t int64_of(const JsonValue& value);

/// Whether the value is Infinity: a number to Python's JSON, text to Hjson.
[[nodiscard]] bool says_infinity(const JsonValue& value);

}  // namespace strata::formats
