#pragma once

#include "point.h"
#include "result.h"

/// \file
/// The time that a disk takes for a given number of bytes read and written: the bound that a
/// training step cannot beat when its state is on disk.

namespace strata::nvme_bench {

/// Bytes moved for each parameter in one step.
struct Traffic {
  double read_bytes = 0;
  double written_bytes = 0;
};

/// All state on disk as the engine keeps it in bf16 with fp32 moments.
inline constexpr Traffic kTrainingTraffic{.read_bytes = kTrainBytesRead,
                                          .written_bytes = kTrainBytesWritten};

/// The speeds of a disk at one setting, in bytes per second.
struct DiskSpeeds {
  double read = 0;   ///< reading alone
  double write = 0;  ///< writing alone
  /// The speeds of both at the same time; 0 and 0 when that was not measured.
  double mixed_read = 0;
  double mixed_write = 0;

  /// The speeds of a disk that overlaps the two directions as far as `mu` says.
  [[nodiscard]] static DiskSpeeds with_overlap(double read, double write, double mu);

  /// How far reads and writes overlap: 1, the shorter of the two costs nothing; 0, they share the
  /// time and nothing is gained by issuing them together (also when mixing slows the disk down, or
  /// was not measured).
  [[nodiscard]] double mu() const;

  /// Seconds that moving `traffic` takes, the better of side by side and one direction at a time:
  /// max(R/B_r, W/B_w) + (1 - mu) min(R/B_r, W/B_w). Infinite when a speed it needs is 0.
  [[nodiscard]] double seconds(const Traffic& traffic) const;
};

/// Seconds of a training step of `parameters`, after a measurement of Workload::kTrainStep. It may
/// have ended within a slice, with more of one pass than of the other: the windows tell the costs
/// of the passes apart, and a step has its share of both. Infinite when it read or wrote nothing.
[[nodiscard]] double seconds_of_train_step(const PointResult& result, double parameters);

/// The speed of one direction in `result`, over all the time that was measured.
[[nodiscard]] double read_speed(const PointResult& result);
[[nodiscard]] double write_speed(const PointResult& result);

}  // namespace strata::nvme_bench
