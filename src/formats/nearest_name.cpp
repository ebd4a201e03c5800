#include "formats/nearest_name.h"

#include <algorithm>
#include <vector>

namespace strata::formats {
namespace {

/// Damerau's distance, in the restricted form (no letter takes part in two swaps).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substitution = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({substitution, last[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

/// The candidate nearest to `name`; empty when `least` or more of its letters are wrong.
std::string_view nearest_within(std::size_t least, std::string_view name,
                                std::span<const std::string_view> candidates) {
  constexpr std::size_t kLengthMax = 100;  // keeps a hostile key cheap; no key is so long
  if (name.size() > kLengthMax) return {};
  std::string_view nearest;
  for (const std::string_view candidate : candidates) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace

std::string_view nearest_name(std::string_view name, std::span<const std::string_view> candidates) {
  // More than half of the letters wrong is another word.
  return nearest_within(name.size() / 2 + 1, name, candidates);
}

std::string_view misspelled_name(std::string_view name,
                                 std::span<const std::string_view> candidates) {
  const std::size_t wrong = name.size() < 3 ? 0 : std::max<std::size_t>(1, name.size() / 4);
  return nearest_within(wrong + 1, name, candidates);
}

}  // namespace strata::formats
