#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "strata/zero3/plan.h"
#include "strata/zero3/step_model.h"
#include "zero3/forecast/job_timeline.h"

/// \file
/// The words in which the engine's parts say what they start and wait for.

namespace strata::zero3::forecast {

/// Bytes and FLOP of jobs, and their seconds with a lane to themselves.
struct StepAmounts {
  std::array<double, kStepLaneCount> lanes{};
  std::array<double, kStepLaneCount> seconds{};
  std::array<double, kHopCount> hops{};
};

/// The jobs of a rank, and the place that its program has reached: whatever it starts begins after
/// all that it has waited for.
class StepJobs {
 public:
  /// `parts_max`: in so many parts a vector is moved at most.
  StepJobs(const PlanInput& input, const RankSpeeds& speeds, std::uint64_t parts_max)
      : input_(input), speeds_(speeds), parts_max_(parts_max) {}

  /// Starts a job that moves `amount` bytes (or computes so many FLOP) on a lane. Throws
  /// ConfigError for a lane without speed.
  JobId start(JobQueue queue, Hop hop, StepLane lane, double amount,
              std::initializer_list<JobId> after);
  /// Starts to add a gradient to its home: `amount` bytes are read and written.
  JobId add_gradient(Hop hop, double amount, std::initializer_list<JobId> after);
  /// Whether checksums take time.
  [[nodiscard]] bool checks() const { return speeds_.check > 0; }
  /// Lets the program wait for a job.
  void wait_for(Hop hop, JobId job);
  /// Counts bytes that a hop moves beside those of its jobs: an exchange counts what all ranks
  /// have.
  void count(Hop hop, double bytes) { amounts_.hops[static_cast<std::size_t>(hop)] += bytes; }
  void mark() { timeline_.mark(); }

  /// The part in which a vector of `whole` elements or bytes is moved when the engine does it in
  /// `grid`: a multiple of it.
  [[nodiscard]] std::uint64_t part_of(std::uint64_t whole, std::uint64_t grid) const;
  /// What a rank gets of `bytes` that all ranks give.
  [[nodiscard]] double from_others(double bytes) const;
  /// Whether the program itself copies and computes: there is no accelerator.
  [[nodiscard]] bool program_computes() const { return input_.device_memory_is_host; }

  [[nodiscard]] const JobTimeline& timeline() const { return timeline_; }
  [[nodiscard]] const StepAmounts& amounts() const { return amounts_; }

 private:
  JobId start(JobQueue queue, Hop hop, StepLane lane, double speed, double amount,
              std::initializer_list<JobId> after);

  const PlanInput& input_;
  const RankSpeeds& speeds_;
  const std::uint64_t parts_max_;
  JobTimeline timeline_;
  StepAmounts amounts_;
  JobId program_ = kNoJob;  ///< the last thing that the program has waited for
};

}  // namespace strata::zero3::forecast
