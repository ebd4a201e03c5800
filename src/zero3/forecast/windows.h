#pragma once

#include <cstdint>
#include <deque>

#include "zero3/forecast/step_jobs.h"
#include "zero3/forecast/unit_shape.h"

/// \file
/// Hops step and flush as jobs: the windows of WindowPipeline, in rotation.

namespace strata::zero3::forecast {

class Windows {
 public:
  Windows(const Plan& plan, const PlanInput& input, StepJobs& jobs);

  /// Updates a share of a vector whose gradient is whole after `gradient`: the elements that lie
  /// between the two shares of it. Its windows are read as soon as places are free. Returns the job
  /// that ends the update; kNoJob where no element lies there.
  JobId update(const UnitShape& unit, const VectorShape& vector, double from, double to,
               JobId gradient);

 private:
  struct Bytes {
    double of_disk = 0, of_device = 0, in_all = 0;
  };
  [[nodiscard]] Bytes state_bytes_of(const UnitShape& unit, const StateFormat& format) const;

  const Plan& plan_;
  const PlanInput& input_;
  StepJobs& jobs_;
  std::deque<JobId> places_;    ///< each place of the rotation by the job after which it is free
  JobId thread_free_ = kNoJob;  ///< after this the optimizer's thread goes on
};

}  // namespace strata::zero3::forecast
