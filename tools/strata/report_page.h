#pragma once

#include <string>

#include "run_record.h"
#include "strata/base/timeline.h"

namespace strata::tool {

/// A run as one page: figures, losses, speed, the bytes that every tier held and that were moved,
/// every hop's bytes, speed, work and waiting, and its steps as a table. With a trace (null: none)
/// the picture of a step and, for each hop, how much of its time was hidden; with a bound in the
/// metrics, the share of it. What was not recorded is left out.
[[nodiscard]] std::string report_page(const RunRecord& run, const TimelineRecord* trace);

}  // namespace strata::tool
