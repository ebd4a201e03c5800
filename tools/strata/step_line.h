#pragma once

#include <cstdint>
#include <string>

#include "step_record.h"

namespace strata::tool {

/// One step as a line for people; rates are those of `since_last_line`:
///
///     step:   10/100  loss: 4.2131  lr: 3.00e-04  grad_norm: 1.2034  tps: 1,034
///     device: 340 MiB  host: 398/400 MiB  nvme: 1.02 GiB  read: 1.21 GB/s  written: 1.04 GB/s
///     waiting: 12%  bound: 71% (disk)
///
/// (all in one line). The bound is that of Interval::bound_share. A tier that has a budget shows it
/// behind a slash.
[[nodiscard]] std::string step_line(const StepRecord& record, std::int64_t steps,
                                    const Interval& since_last_line);

/// An evaluation: "eval: step 10  loss: 4.3310  perplexity: 76.02  (1.2 s)".
[[nodiscard]] std::string evaluation_line(const EvaluationRecord& record);

/// A number: "12,345".
[[nodiscard]] std::string with_separators(std::uint64_t number);

/// A tier's use: "398 MiB", or "398 MiB of 400 MiB" where a budget is set.
[[nodiscard]] std::string bytes_of_budget(std::uint64_t bytes, std::uint64_t budget);

/// A rate: "1.21 GB/s"; below 0.1 GB/s "87.0 MB/s".
[[nodiscard]] std::string format_rate(double bytes_per_second);

}  // namespace strata::tool
