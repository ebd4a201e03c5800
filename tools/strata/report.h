#pragma once

#include <iosfwd>

#include "report_options.h"

namespace strata::tool {

/// Runs `strata report`: writes the page, which is complete or absent, and its name to `out`.
/// Throws what read_run throws, DataError for a damaged trace, IoError.
void report(const ReportOptions& options, std::ostream& out);

}  // namespace strata::tool
