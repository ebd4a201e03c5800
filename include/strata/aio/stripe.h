#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "strata/aio/path_meter.h"

/// \file
/// How chunks are shared among several paths (directories on different disks), so that all of them
/// finish at the same time. Pure: no clock, no files.

namespace strata::aio {

/// About the least share of a path: without work it could not show that it is fast again.
inline constexpr double kShareMin = 1.0 / 64;

/// Stores each path's share of the chunks in proportion to its bandwidth; they add up to 1. Equal
/// shares while one of the bandwidths is unknown. `shares` is as long as `paths`, at most 64.
void shares_of(std::span<const PathBandwidth> paths, std::span<double> shares) noexcept;

/// Lowers the shares that exceed what their paths have room for, and raises the others in
/// proportion. Where all the ceilings together are less than 1 they are the result.
void limit_shares(std::span<double> shares, std::span<const double> ceilings) noexcept;

/// The path of the chunk at `position` of a store's sequence of chunks. In any run of consecutive
/// positions every path has its share, to within a few chunks, and the paths alternate; paths with
/// equal shares take strict turns if their number is a power of two. When shares change, only about
/// as many positions change their path as that requires.
[[nodiscard]] std::size_t path_at(std::uint64_t position, std::span<const double> shares) noexcept;

/// Follows the bandwidth of each path and says when the shares should change: when a path's own
/// share is off by `kDeviation` or more, in the same direction, for `kRounds` rounds running. A
/// round is over when every path has been busy for `kSampleBusy` in one direction. So a single
/// sample, however far off, changes nothing, and neither does what slows all paths alike. The new
/// shares are those of the estimates, in which a sample weighs `kWeight` and all before it the
/// rest. Allocates nothing once made. Thread: one at a time.
class StripeBalancer {
 public:
  static constexpr double kDeviation = 0.20;
  static constexpr int kRounds = 3;
  static constexpr double kWeight = 0.5;
  static constexpr std::chrono::milliseconds kSampleBusy{200};

  /// `start`: bandwidths that a trial found (`try_paths`), or unknown.
  explicit StripeBalancer(std::span<const PathBandwidth> start);

  /// Looks at the meters' totals, one for each path. Returns true when the shares have changed.
  bool observe(std::span<const PathTotals> totals);
  /// Takes these bandwidths as measured, at once, in place of all that was observed so far.
  void reset(std::span<const PathBandwidth> bandwidths);

  [[nodiscard]] std::span<const double> shares() const noexcept { return shares_; }

 private:
  struct Path {
    PathTotals sampled;       // totals when its last samples were taken
    PathTotals seen;          // totals when they were looked at last
    bool has_sample = false;  // was sampled in this round
    int rounds_above = 0;     // rounds running with more than its share to give
    int rounds_below = 0;     // rounds running with less
  };
  /// Takes the samples that are due. False when there are none.
  bool take_samples(std::size_t path, const PathTotals& totals);
  /// Compares a finished round with the shares. True when a path has been off for long enough.
  bool judge_round();

  std::vector<Path> paths_;
  std::vector<PathBandwidth> latest_;     // the last samples
  std::vector<PathBandwidth> estimates_;  // all samples so far, the older the less
  std::vector<double> shares_;
  std::vector<double> wanted_;  // shares by the latest samples
};

}  // namespace strata::aio
