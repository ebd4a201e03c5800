#pragma once

#include <iosfwd>

#include "machine_here.h"
#include "plan_options.h"
#include "process.h"
#include "strata/base/log.h"

namespace strata::tool {

/// What --machine here measures with, and how much.
struct Measuring {
  MeasureArithmetic arithmetic;
  MeasuringEffort effort{};
};

/// Runs `strata plan`: the answer goes to `out`, what is chosen and done on the way to `log`.
/// Returns kBudget where the model does not fit. Throws ConfigError, DataError, IoError; where the
/// machine is measured, what `machine_here` throws, and Interrupted on SIGINT and SIGTERM. A
/// machine file that is asked for is there only if all of it is.
[[nodiscard]] ExitCode plan(const PlanOptions& options, const Measuring& measuring,
                            std::ostream& out, Logger& log);

}  // namespace strata::tool
