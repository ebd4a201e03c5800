#pragma once

#include <chrono>
#include <string>

namespace strata::tool {

/// A number with `digits` digits after the point; "not finite" for one that is not.
[[nodiscard]] std::string fixed_text(double value, int digits);

/// A time with three or four digits: "812 ns", "84.2 us", "1.53 ms", "2.10 s".
[[nodiscard]] std::string time_text(std::chrono::nanoseconds time);

/// A share: "12.3 %".
[[nodiscard]] std::string share_text(double share);

}  // namespace strata::tool
