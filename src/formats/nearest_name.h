#pragma once

#include <span>
#include <string_view>

namespace strata::formats {

/// The candidate that takes the fewest insertions, deletions, substitutions and swaps of
/// neighbours to become `name`; empty when even that one is no plausible misspelling.
[[nodiscard]] std::string_view nearest_name(std::string_view name,
                                            std::span<const std::string_view> candidates);

/// The candidate from which `name` differs by a slip of the pen: at most a quarter of its letters
/// are wrong. Empty when there is none.
[[nodiscard]] std::string_view misspelled_name(std::string_view name,
                                               std::span<const std::string_view> candidates);

}  // namespace strata::formats
