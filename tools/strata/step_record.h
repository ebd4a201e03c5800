#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "strata/base/counters.h"
#include "strata/zero3/plan.h"

/// \file
/// The reports of a run: on one step, on an evaluation, on a stretch of time.

namespace strata::tool {

/// The work between two moments. Intervals add up.
struct Interval {
  double seconds = 0;
  std::uint64_t tokens = 0;         ///< tokens trained on
  std::uint64_t read_bytes = 0;     ///< bytes read from the nvme tier
  std::uint64_t written_bytes = 0;  ///< bytes written to the nvme tier
  /// Bytes of weights and of gradients that came to one rank from the others: all have as many.
  std::uint64_t gathered_bytes = 0, reduced_bytes = 0;
  double disk_wait_seconds = 0;  ///< time that the training thread stood still for it
  double disk_busy_seconds = 0;  ///< time that it had a transfer under way
  /// Seconds of every hop: at work, and with the training thread standing still for it.
  std::array<double, kHopCount> busy_seconds{}, wait_seconds{};
  std::array<std::uint64_t, kHopCount> hop_bytes{};  ///< bytes that every hop moved

  Interval& operator+=(const Interval& other);

  // Rates; all 0 for an interval of no length.
  [[nodiscard]] double tokens_per_second() const;
  [[nodiscard]] double read_bytes_per_second() const;
  [[nodiscard]] double written_bytes_per_second() const;
  [[nodiscard]] double disk_wait_share() const;

  /// The resource that was at work longest, and its share of the time: no schedule of the same work
  /// at the same speeds takes less than that share of it.
  [[nodiscard]] std::string_view binding_resource() const;  ///< "compute" or "disk"
  [[nodiscard]] double bound_share() const;
};

/// The interval in which the counters moved by `moved`, and the disk was at work for `disk_busy`.
[[nodiscard]] Interval interval_of(const CounterReading& moved, Time::duration time,
                                   std::uint64_t tokens, Time::duration disk_busy = {});

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
  double grad_norm = 0;  ///< norm before clipping
  double loss_scale = 1;
  bool overflow = false;  ///< nothing was updated
  bool is_last = false;   ///< a signal has come, to this rank or another, that ends the run
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
