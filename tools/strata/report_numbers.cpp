#include "report_numbers.h"

#include <cmath>
#include <cstdio>

namespace strata::tool {

std::string fixed_text(double value, int digits) {
  if (!std::isfinite(value)) return "not finite";
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string time_text(std::chrono::nanoseconds time) {
  const auto count = static_cast<double>(time.count());
  struct Unit {
    double size;
    const char* name;
  };
  for (const auto& [size, name] : {Unit{1e9, " s"}, Unit{1e6, " ms"}, Unit{1e3, " us"}}) {
    if (count < size) continue;
    const double value = count / size;
    return fixed_text(value, value < 10 ? 2 : value < 100 ? 1 : 0) + name;
  }
  return fixed_text(count, 0) + " ns";
}

std::string share_text(double share) { return fixed_text(100 * share, 1) + " %"; }

}  // namespace strata::tool
