#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "result.h"

/// \file
/// Whether a measurement has settled, and whether the drive slowed down on the way.

namespace strata::nvme_bench {

/// A lasting loss of speed, as when a drive's fast cache (SLC) is full.
struct Slowdown {
  double seconds = 0;              ///< seconds into the measurement
  std::uint64_t bytes_before = 0;  ///< bytes moved until then
  double bytes_per_second_before = 0;
  double bytes_per_second_after = 0;
};

/// The judgement follows the test specification of SNIA (Solid State Storage Performance Test
/// Specification): over the last windows the largest and the smallest differ by at most 20 % of the
/// mean, and the straight line through them rises or falls by at most 10 % of it.
struct SteadyState {
  bool reached = false;
  double bytes_per_second = 0;  ///< speed of the judged part: the second half
  double spread = 0;            ///< largest less smallest, as a share of the mean
  double slope = 0;             ///< rise of the line through all, as a share of the mean
  std::optional<Slowdown> slowdown;
  std::string verdict;  ///< one sentence
};

/// Looks at the bytes of both directions in `windows`, which are in order of time. Windows are put
/// together in groups first, so that the drive's short bursts are not taken for a trend.
[[nodiscard]] SteadyState judge_steadiness(std::span<const Window> windows);

}  // namespace strata::nvme_bench
