#pragma once

#include <string>
#include <string_view>

namespace strata::tool {

/// The noun after a count: "step" after 1, else "steps".
template <class Count>
[[nodiscard]] std::string plural(Count count, std::string_view noun) {
  return std::string(noun) + (count == 1 ? "" : "s");
}

/// A count and its noun: "1 step", "2 steps".
template <class Count>
[[nodiscard]] std::string counted(Count count, std::string_view noun) {
  return std::to_string(count) + " " + plural(count, noun);
}

}  // namespace strata::tool
