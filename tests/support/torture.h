#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string_view>

/// \file
/// Tests that draw their cases by a number make a few of them among the other tests, and as many as
/// they are asked for under tools/torture.sh, which sets in the environment
///
///     STRATA_TORTURE        cases for each usual one, 1 where it is not set
///     STRATA_TORTURE_SEED   the number that they are drawn by, 1 where it is not set

namespace strata::support {

inline std::uint64_t torture_number(const char* name) {
  const char* const text = std::getenv(name);
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

/// The cases to make where a short test makes `usual` ones.
inline std::uint64_t torture_cases(std::uint64_t usual) {
  return usual * torture_number("STRATA_TORTURE");
}

inline std::uint64_t torture_seed() { return torture_number("STRATA_TORTURE_SEED"); }

/// Tells tools/torture.sh how many cases of a kind were made.
inline void report_cases(std::string_view kind, std::uint64_t cases) {
  if (std::getenv("STRATA_TORTURE") == nullptr) return;
  std::cout << "torture: " << cases << " " << kind << std::endl;
}

}  // namespace strata::support
