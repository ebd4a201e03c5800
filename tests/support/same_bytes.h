#pragma once

#include <cstddef>
#include <cstring>
#include <span>

namespace strata::support {

/// Whether both are the same bytes. By one call: a sanitizer looks at each byte of a loop by
/// itself, and tests that compare megabytes did little else.
[[nodiscard]] inline bool same_bytes(std::span<const std::byte> left,
                                     std::span<const std::byte> right) {
  return left.size() == right.size() &&
         (left.empty() || std::memcmp(left.data(), right.data(), left.size()) == 0);
}

}  // namespace strata::support
