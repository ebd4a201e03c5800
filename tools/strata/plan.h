#pragma once

#include <iosfwd>

#include "plan_options.h"
#include "process.h"

namespace strata::tool {

/// Runs `strata plan`: the answer goes to `out`. Returns kBudget where the model does not fit.
/// Throws ConfigError, DataError, IoError.
[[nodiscard]] ExitCode plan(const PlanOptions& options, std::ostream& out);

}  // namespace strata::tool
