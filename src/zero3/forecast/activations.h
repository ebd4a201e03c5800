#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "strata/zero3/plan.h"
#include "strata/zero3/step_model.h"
#include "zero3/forecast/step_jobs.h"

/// \file
/// The way of activations as jobs: what ActivationStore does with the inputs of units that
/// recompute.

namespace strata::zero3::forecast {

/// Bytes are numbered in the order in which they are put; what is put last is brought first. Host
/// memory has the last ones, nvme the others.
class Activations {
 public:
  Activations(const PlanInput& input, const StepWork& work, StepJobs& jobs);

  /// Takes the inputs of a use once it has `computed` forward, as far as there is room.
  void put(std::size_t use, JobId computed);
  /// Brings them back. Returns the job after which they are on the device.
  [[nodiscard]] JobId bring(std::size_t use);

 private:
  /// Bytes on their way to the disk up to a number, or from there down to it.
  struct Way {
    std::uint64_t number;
    JobId done;
  };

  void put_part(std::uint64_t bytes, JobId computed);
  void write_for(std::uint64_t end);
  [[nodiscard]] JobId in_memory(std::uint64_t begin);
  void read_down_to(std::uint64_t begin);
  [[nodiscard]] std::uint64_t part_of(std::uint64_t bytes) const;
  [[nodiscard]] JobId check(Hop hop, std::uint64_t bytes, JobId after);

  const tiering::ActivationRoom room_;
  StepJobs& jobs_;
  std::vector<std::uint64_t> wanted_;  ///< of each use, bytes
  std::vector<std::uint64_t> taken_;
  std::uint64_t held_ = 0;     ///< all bytes that are there
  std::uint64_t written_ = 0;  ///< the first of them: they are on the disk
  std::uint64_t away_ = 0;     ///< the first of them: host memory has them no more
  std::uint64_t to_read_ = 0;  ///< of these, those that are not yet asked for
  JobId arrived_ = kNoJob;     ///< the last bytes are in host memory
  JobId left_ = kNoJob;        ///< the last bytes that were brought have left it
  std::deque<Way> writes_, reads_;
};

}  // namespace strata::zero3::forecast
