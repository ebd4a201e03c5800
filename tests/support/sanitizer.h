#pragma once

#include <cstddef>
#include <vector>

namespace strata::support {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

/// True in a build in which every access is checked: places matter there, and numbers do not. What
/// tries the bits of numbers takes fifteen times as long, so it tries a part of them.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

/// The parameters of a suite whose threads meet in the same way for each of them, as they do
/// whatever the formats and the formulas: all of them, but with ThreadSanitizer, which takes ten
/// times as long and can see nothing new, the first of every `each` alone.
template <class Parameter>
[[nodiscard]] std::vector<Parameter> of_same_threads(const std::vector<Parameter>& all,
                                                     std::size_t each) {
  if (!kThreadSanitizer) return all;
  std::vector<Parameter> some;
  for (std::size_t i = 0; i < all.size(); i += each) some.push_back(all[i]);
  return some;
}

}  // namespace strata::support
