#pragma once

#include <CLI/CLI.hpp>

namespace strata::tool {

// Checks of what options are given. CLI11's own would print their bounds with all 309 digits, and
// its conversion turns values beyond the type into the type's largest one.

/// A whole number from 1 to 2^63 - 1.
[[nodiscard]] CLI::Validator whole_number();
/// A whole number from 0 to 2^64 - 1.
[[nodiscard]] CLI::Validator seed_number();
/// A path that is not empty, as a shell variable that was not set is.
[[nodiscard]] CLI::Validator path_name();
[[nodiscard]] CLI::Validator positive_number();
[[nodiscard]] CLI::Validator number_from_0();
/// A number from 0 to 0.9.
[[nodiscard]] CLI::Validator fraction();
/// A number above 0 and at most 1.
[[nodiscard]] CLI::Validator probability();

}  // namespace strata::tool
