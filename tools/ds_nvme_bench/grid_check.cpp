#include "tune_outcome.h"

#include <algorithm>

namespace strata::nvme_bench {
namespace {

constexpr int kTurns = 5;

template <typename T>
void keep_only(std::vector<T>& axis, std::initializer_list<T> wanted) {
  std::erase_if(axis, [&](T value) {
    return std::find(wanted.begin(), wanted.end(), value) == wanted.end();
  });
}

}  // namespace

std::vector<Setting> coarse_grid(const SearchSpace& space) {
  SearchSpace coarse = space;
  keep_only<std::uint64_t>(coarse.blocks, {256_KiB, 1_MiB, 4_MiB});
  keep_only<std::uint32_t>(coarse.depths, {4, 16, 64});
  return coarse.all();
}

GridCheck check_against_grid(const std::vector<Setting>& grid, const Setting& chosen,
                             const Limits& limits, double search_seconds, const Measure& measure,
                             const ElapsedTime& elapsed) {
  GridCheck check;
  check.settings = grid.size();
  check.search_seconds = search_seconds;
  std::vector<PointResult> points;  // the grid's are not part of the outcome

  const auto start = elapsed();
  Candidate best;
  for (const Setting& setting : grid) {
    Candidate candidate = measure_setting(setting, limits, true, kTrainingTraffic, measure, points);
    const bool is_first = best.setting.block_bytes == 0;
    if (candidate.failure.empty() && (is_first || candidate.seconds < best.seconds)) {
      best = std::move(candidate);
    }
  }
  check.grid_seconds = std::chrono::duration<double>(elapsed() - start).count();

  std::vector<Candidate> of_grid;
  std::vector<Candidate> of_search;
  for (int turn = 0; turn < kTurns; ++turn) {
    of_grid.push_back(
        measure_setting(best.setting, limits, true, kTrainingTraffic, measure, points));
    of_search.push_back(measure_setting(chosen, limits, true, kTrainingTraffic, measure, points));
  }
  check.grid_best = median_of(of_grid, kTrainingTraffic);
  check.search_best = median_of(of_search, kTrainingTraffic);
  return check;
}

}  // namespace strata::nvme_bench
