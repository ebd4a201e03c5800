#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "contestant_process.h"

namespace strata::bench {

/// The results of one contestant: a sample a round.
struct ContestantResult {
  std::string name;
  std::string description;
  std::vector<StepSample> samples;
  std::uint64_t peak_rss_bytes = 0;
};

/// Step times, their ratios round by round, where the time of Strata's steps went, peak memory.
void print_report(std::ostream& out, const std::vector<ContestantResult>& results);

/// The report and every sample, as JSON.
[[nodiscard]] std::string report_json(const std::vector<ContestantResult>& results);

}  // namespace strata::bench
