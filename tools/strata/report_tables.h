#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "run_record.h"
#include "trace_summary.h"

/// \file
/// The tables of a run's page, as markup. A table without rows is "".

namespace strata::tool {

/// Every hop over all steps that tell of it: bytes, speed, work, and how long training stood still.
[[nodiscard]] std::string hop_table(const RunRecord& run);

/// Every hop over the traced steps: what was under way, how much of that was hidden behind work.
[[nodiscard]] std::string traced_hop_table(const TraceSummary& trace);

/// The units that threads stood still for longest.
[[nodiscard]] std::string stall_table(const TraceSummary& trace);

/// The steps, out of `count`.
[[nodiscard]] std::string step_table(const std::vector<RunStep>& steps, std::size_t count);

}  // namespace strata::tool
