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

  /// Updates a vector whose gradient is whole after `gradient`. Its windows are read as soon as
  /// places are free. Returns the job that ends the update.
  JobId update(const UnitShape& unit, const VectorShape& vector, JobId gradient);

 private:
  const Plan& plan_;
  const PlanInput& input_;
  StepJobs& jobs_;
  std::deque<JobId> places_;    ///< each place of the rotation by the job after which it is free
  JobId thread_free_ = kNoJob;  ///< after this the optimizer's thread goes on
};

}  // namespace strata::zero3::forecast
