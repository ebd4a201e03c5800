#pragma once

#include <span>
#include <vector>

#include "result.h"
#include "svg_chart.h"

namespace strata::bench {

/// The charts that `points` make: for each engine throughput over depth with a line per block size,
/// the 99th percentile of the latency over depth, and throughput over block size with a line per
/// engine; reads and writes apart. Charts with fewer than two places on the x axis are left out. A
/// setting measured several times is drawn at its median; of several numbers of threads, the one
/// that gave most is drawn.
[[nodiscard]] std::vector<Chart> charts_of(std::span<const PointResult> points);

/// Throughput of both directions over the time of one measurement.
[[nodiscard]] Chart time_line_of(const PointResult& point);

}  // namespace strata::bench
