#pragma once

#include <functional>

#include "measuring_thread.h"
#include "point.h"
#include "result.h"
#include "strata/base/log.h"
#include "target_files.h"

namespace strata::nvme_bench {

/// Runs one point over the files and returns the result. `on_window` (may be empty) is
/// called from the calling thread about every 100 ms with the last window (of 0 bytes during the
/// ramp, and while the last requests come home); when it returns false the measurement ends there,
/// with what it has.
///
/// Failed requests are counted and the run goes on. When the engine itself is lost it ends with
/// what it has; `unanswered` says so when a request did not come back within `Limits::timeout`.
/// When a thread does not come back from the kernel (`io_submit` on a frozen file system), the
/// process says so and ends with code 1.
/// Throws ConfigError for a point that cannot be run (a block larger than a thread's part of the
/// files), IoError when the engine cannot be had. With `make_backend` the point's engine does not
/// apply.
[[nodiscard]] PointResult run_point(const Point& point, const Limits& limits,
                                    const TargetFiles& files, Logger& log,
                                    const std::function<bool(const Window&)>& on_window = {},
                                    const MakeBackend& make_backend = {});

/// The question of a search: a point's result. A function, so that a search can be tested on a disk
/// that exists only as a formula.
using Measure = std::function<PointResult(const Point&, const Limits&)>;

}  // namespace strata::nvme_bench
