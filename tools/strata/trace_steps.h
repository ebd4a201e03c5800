#pragma once

#include <cstdint>
#include <string_view>

namespace strata::tool {

/// The steps of a run that are traced, counted from 1; both are.
struct TraceSteps {
  std::int64_t first = 0, last = 0;

  [[nodiscard]] bool contains(std::int64_t step) const { return first <= step && step <= last; }
  bool operator==(const TraceSteps&) const = default;
};

/// Reads "steps=3-5" or "steps=7". Throws ConfigError for anything else.
[[nodiscard]] TraceSteps parse_trace_option(std::string_view text);

/// Throws ConfigError unless a run of so many steps makes the last of them.
void require_traced_steps(const TraceSteps& traced, std::int64_t steps);

}  // namespace strata::tool
