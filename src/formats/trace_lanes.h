#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "strata/base/timeline.h"

namespace strata::formats {

/// The lanes of a recording, in the order in which they are shown, and each span's one.
struct TraceLanes {
  std::vector<std::string> names;      ///< "1 fetch: slot 0"
  std::vector<std::uint32_t> of_span;  ///< index into `names`
};

/// Deals the spans out to lanes such that those in one lane lie inside one another or apart.
[[nodiscard]] TraceLanes deal_lanes(const TimelineRecord& record);

/// "phase", "busy", "wait", "transfer".
[[nodiscard]] std::string_view name_of(SpanKind kind);

}  // namespace strata::formats
