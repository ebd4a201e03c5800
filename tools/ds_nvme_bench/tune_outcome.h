#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "report_html.h"
#include "search.h"
#include "smart.h"
#include "steady_state.h"
#include "strata/aio/disk.h"

namespace strata::nvme_bench {

/// The search's pick against a grid of all settings of a coarser space, both measured in turns.
struct GridCheck {
  std::size_t settings = 0;  ///< number in the grid
  double search_seconds = 0;
  double grid_seconds = 0;
  Candidate grid_best;
  Candidate search_best;

  /// The pick's speed as a share of the grid's best; may exceed 1.
  [[nodiscard]] double quality() const { return grid_best.seconds / search_best.seconds; }
};

/// A drive's health log, before and after.
struct DriveHealth {
  std::string device;
  tool::SmartReading before;
  tool::SmartReading after;
};

/// Everything that tuning found out.
struct TuneOutcome {
  std::vector<aio::DiskDescription> disks;
  std::uint64_t bytes = 0;  ///< size of the files
  SearchResult search;
  PointResult writes;  ///< longer writes with the pick; no windows: not measured
  SteadyState steady;  ///< judgement of those writes
  std::optional<PointResult> train_step;
  std::vector<DriveHealth> health;
  std::optional<GridCheck> grid;
  std::vector<std::string> notes;
  std::string ended;   ///< reason why it ended early; "": it did not
  double seconds = 0;  ///< all measurements together
  std::chrono::system_clock::time_point time;

  /// Whether the search came to its end: without a choice, only the measurements are shown.
  [[nodiscard]] bool has_choice() const { return !search.finalists.empty(); }
  /// Bytes written by this program: while measuring, and once when the files were made.
  [[nodiscard]] std::uint64_t bytes_written() const;
};

/// Says "reads and writes at once, which saves 40 % of the shorter" or "one direction at a time".
[[nodiscard]] std::string advice_on_directions(const DiskSpeeds& speeds);

/// Text for a person; ends with the sections for the config, if there is a choice.
void write_table(std::ostream& out, const TuneOutcome& outcome);
[[nodiscard]] std::string to_json(const TuneOutcome& outcome);
/// The outcome as a page; needs a choice.
[[nodiscard]] HtmlReport to_html_report(const TuneOutcome& outcome);

/// The settings of `space` whose blocks are 256 KiB, 1 MiB and 4 MiB and whose depths are 4, 16 and
/// 64, with every engine in `engines` and every number of threads.
[[nodiscard]] std::vector<Setting> coarse_grid(const SearchSpace& space);

/// Measures all of `grid`, each reading, writing and both for `limits`, then its best and `chosen`
/// in turns. `search_seconds` is the time that finding `chosen` took.
[[nodiscard]] GridCheck check_against_grid(const std::vector<Setting>& grid, const Setting& chosen,
                                           const Limits& limits, double search_seconds,
                                           const Measure& measure, const ElapsedTime& elapsed);

}  // namespace strata::nvme_bench
