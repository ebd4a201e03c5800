#pragma once

#include <string>

#include "trace_summary.h"

namespace strata::tool {

/// A traced step as an `<svg>`: a row for its phases, and for each hop one for the time in which
/// its bytes were under way, one for work on them and one for standing still. What lies above one
/// another happened at the same time. Its colours are those of `chart_style()`.
[[nodiscard]] std::string overlap_picture(const TraceSummary& trace, const TracedPhase& step);

}  // namespace strata::tool
