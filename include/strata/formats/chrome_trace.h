#pragma once

#include <filesystem>
#include <string>

#include "strata/base/timeline.h"

/// \file
/// Recordings of hops as files that trace viewers open: Perfetto (https://ui.perfetto.dev) and
/// chrome://tracing.

namespace strata::formats {

/// The content of a trace file: Chrome's trace event format, gzipped.
///
/// Every span is a slice. It has a lane for the run's phases, then for each hop one for its work,
/// one for waiting and one for each slot of its transfers; spans that overlap without one being
/// inside the other get more lanes. Slices in a lane are nested. An arrow leads from every transfer
/// to the use of its bytes. Counters are the samples, under their names, and the bytes under way
/// from and to the nvme tier. Times begin at the first span, in microseconds with three digits.
///
///     name      the unit or extent, else the hop
///     cat       the hop, or "phase"
///     args      kind (busy, wait, transfer, phase), slot of transfers, bytes where known
[[nodiscard]] std::string chrome_trace(const TimelineRecord& record);

/// Writes that to `path`: the file is complete or absent. Throws IoError.
void write_chrome_trace(const std::filesystem::path& path, const TimelineRecord& record);

/// Reads the spans and samples of such a file, its arrows not. Times begin at Time{}. Throws
/// DataError for a file that is damaged or another's, IoError.
[[nodiscard]] TimelineRecord read_chrome_trace(const std::filesystem::path& path);

}  // namespace strata::formats
