#pragma once

#include "tune_outcome.h"

namespace strata::bench {

/// The settings of `space` whose blocks are 256 KiB, 1 MiB and 4 MiB and whose depths are 4, 16 and
/// 64, with every engine in `engines` and every number of threads.
[[nodiscard]] std::vector<Setting> coarse_grid(const SearchSpace& space);

/// Measures all of `grid`, each reading, writing and both for `limits`, then its best and `chosen`
/// in turns. `search_seconds` is what finding `chosen` took.
[[nodiscard]] GridCheck check_against_grid(const std::vector<Setting>& grid, const Setting& chosen,
                                           const Limits& limits, double search_seconds,
                                           const Measure& measure, const ElapsedTime& elapsed);

}  // namespace strata::bench
