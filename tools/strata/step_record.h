#pragma once

#include <array>
#include <cstdint>

#include "strata/base/counters.h"
#include "strata/zero3/plan.h"

/// \file
/// What a run reports: of one step, of an evaluation, of a stretch of time.

namespace strata::tool {

/// What happened between two moments. Intervals add up.
struct Interval {
  double seconds = 0;
  std::uint64_t tokens = 0;         ///< trained on
  std::uint64_t read_bytes = 0;     ///< from the nvme tier
  std::uint64_t written_bytes = 0;  ///< to it
  double disk_wait_seconds = 0;     ///< the training thread stood still for the disk
  /// Of every hop: seconds at work, and seconds in which the training thread stood still for it.
  std::array<double, kHopCount> busy_seconds{}, wait_seconds{};

  Interval& operator+=(const Interval& other);

  // All 0 for an interval of no length.
  [[nodiscard]] double tokens_per_second() const;
  [[nodiscard]] double read_bytes_per_second() const;
  [[nodiscard]] double written_bytes_per_second() const;
  [[nodiscard]] double disk_wait_share() const;
};

/// The interval in which the counters moved by `moved`.
[[nodiscard]] Interval interval_of(const CounterReading& moved, Time::duration time,
                                   std::uint64_t tokens);

/// Bytes of every tier: held now, held at most so far, allowed.
struct MemoryReading {
  zero3::TierBytes used, peak, budget;
};

/// One optimizer step.
struct StepRecord {
  std::int64_t step = 0;  ///< counted from 1; an overflowed one counts
  double epoch = 0;       ///< training tokens seen over those there are
  double loss = 0;        ///< mean over the micro-batches
  double lr = 0;
  double grad_norm = 0;  ///< before clipping
  double loss_scale = 1;
  bool overflow = false;  ///< nothing was updated
  Interval interval;
  MemoryReading memory;
};

/// One evaluation on the held-out data.
struct EvaluationRecord {
  std::int64_t step = 0;  ///< steps done before it
  double epoch = 0;
  double loss = 0;
  double seconds = 0;
};

}  // namespace strata::tool
