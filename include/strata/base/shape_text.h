#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace strata {

/// A tensor's shape for people: "[2, 3]".
[[nodiscard]] inline std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text;
  for (const std::int64_t extent : shape) {
    text += (text.empty() ? "" : ", ") + std::to_string(extent);
  }
  return "[" + text + "]";
}

}  // namespace strata
