#include "steady_state.h"
#include "number_text.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <vector>

namespace strata::nvme_bench {
namespace {

constexpr std::size_t kWindowsMin = 20;  // two seconds
constexpr std::size_t kGroups = 10;      // the last half of them is judged
constexpr double kSpreadMax = 0.20;
constexpr double kSlopeMax = 0.10;
constexpr double kSlowdownMin = 0.20;   // share of the speed before
constexpr double kExplainedMin = 0.60;  // share of the variance, by two levels instead of one

std::uint64_t bytes_of(const Window& window) { return window.bytes_read + window.bytes_written; }

double speed_of(std::span<const Window> windows) {
  double bytes = 0;
  double seconds = 0;
  for (const Window& window : windows) {
    bytes += static_cast<double>(bytes_of(window));
    seconds += window.seconds;
  }
  return seconds > 0 ? bytes / seconds : 0;
}

std::vector<double> group_speeds(std::span<const Window> windows, std::size_t groups) {
  std::vector<double> speeds;
  for (std::size_t i = 0; i < groups; ++i) {
    const std::size_t begin = windows.size() * i / groups;
    const std::size_t end = windows.size() * (i + 1) / groups;
    speeds.push_back(speed_of(windows.subspan(begin, end - begin)));
  }
  return speeds;
}

double mean_of(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double squares_around_mean(std::span<const double> values) {
  const double mean = mean_of(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return sum;
}

/// The rise of the least-squares line from the first value to the last.
double rise_of(std::span<const double> values) {
  const double middle = static_cast<double>(values.size() - 1) / 2;
  const double mean = mean_of(values);
  double product = 0;
  double squares = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double x = static_cast<double>(i) - middle;
    product += x * (values[i] - mean);
    squares += x * x;
  }
  return product / squares * static_cast<double>(values.size() - 1);
}

/// The place where two levels describe the windows best, if they do so much better than one and the
/// second is lower.
std::optional<Slowdown> find_slowdown(std::span<const Window> windows) {
  std::vector<double> speeds;
  for (const Window& window : windows) speeds.push_back(speed_of({&window, 1}));
  const std::span<const double> all = speeds;
  const double one_level = squares_around_mean(all);
  const std::size_t margin = std::max<std::size_t>(windows.size() / 20, 2);

  std::size_t best = 0;
  double two_levels = one_level;
  for (std::size_t at = margin; at + margin <= all.size(); ++at) {
    const double sum = squares_around_mean(all.first(at)) + squares_around_mean(all.subspan(at));
    if (sum < two_levels) {
      two_levels = sum;
      best = at;
    }
  }
  if (best == 0 || two_levels > one_level * (1 - kExplainedMin)) return std::nullopt;

  Slowdown slowdown;
  slowdown.bytes_per_second_before = speed_of(windows.first(best));
  slowdown.bytes_per_second_after = speed_of(windows.subspan(best));
  if (slowdown.bytes_per_second_after > slowdown.bytes_per_second_before * (1 - kSlowdownMin)) {
    return std::nullopt;
  }
  for (const Window& window : windows.first(best)) {
    slowdown.seconds += window.seconds;
    slowdown.bytes_before += bytes_of(window);
  }
  return slowdown;
}

std::string verdict_of(const SteadyState& state) {
  std::string verdict;
  if (state.slowdown) {
    verdict = format("slowed down from %.2f to %.2f GB/s after %.1f s and %.1f GB; ",
                     state.slowdown->bytes_per_second_before / 1e9,
                     state.slowdown->bytes_per_second_after / 1e9, state.slowdown->seconds,
                     static_cast<double>(state.slowdown->bytes_before) / 1e9);
  }
  verdict += format(state.reached ? "steady at %.2f GB/s" : "not steady, %.2f GB/s so far",
                    state.bytes_per_second / 1e9);
  return verdict +
         format(" (spread %.0f %%, slope %+.0f %%)", state.spread * 100, state.slope * 100);
}

}  // namespace

SteadyState judge_steadiness(std::span<const Window> windows) {
  SteadyState state;
  state.bytes_per_second = speed_of(windows.subspan(windows.size() / 2));
  if (windows.size() < kWindowsMin) {
    state.verdict = format("too short to tell whether it is steady (%zu windows of %zu)",
                           windows.size(), kWindowsMin);
    return state;
  }
  const std::vector<double> speeds = group_speeds(windows, kGroups);
  const auto judged = std::span(speeds).subspan(kGroups / 2);
  const double mean = mean_of(judged);
  if (mean <= 0) {
    state.verdict = "nothing was moved in the second half of the measurement";
    return state;
  }
  const auto [smallest, largest] = std::minmax_element(judged.begin(), judged.end());
  state.spread = (*largest - *smallest) / mean;
  state.slope = rise_of(judged) / mean;
  state.reached =
      state.spread <= kSpreadMax && state.slope <= kSlopeMax && state.slope >= -kSlopeMax;
  state.slowdown = find_slowdown(windows);
  state.verdict = verdict_of(state);
  return state;
}

}  // namespace strata::nvme_bench
