#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "zero3/forecast/step_jobs.h"
#include "zero3/forecast/unit_shape.h"
#include "zero3/schedule.h"

/// \file
/// Hops reduce and drain as jobs: what GradientCoordinator does with a unit's gradients.

namespace strata::zero3::forecast {

class Gradients {
 public:
  /// `are_sums`: what is brought are sums of micro-batches, in fp32.
  Gradients(const Plan& plan, const PlanInput& input, const std::vector<UnitShape>& shapes,
            bool are_sums, StepJobs& jobs);

  /// Brings the gradients that `computed` made to their homes.
  void accumulate(UnitId unit, JobId computed);
  /// Waits for all additions.
  void settle();
  /// Waits for all additions to a unit.
  void bring_home(UnitId unit);
  /// Whether gradients leave while the next unit computes.
  [[nodiscard]] bool are_behind() const {
    return !jobs_.program_computes() && input_.world_size == 1;
  }
  /// The job after which a vector's gradient is whole, as far as additions have been started.
  [[nodiscard]] JobId whole(UnitId unit, std::size_t vector) const {
    return units_[unit].homes[vector];
  }
  [[nodiscard]] bool has_gradient(UnitId unit) const { return !units_[unit].is_empty; }
  /// Tells that the step has taken them.
  void forget();

 private:
  struct Unit {
    bool is_empty = true;
    std::vector<JobId> homes;
  };
  struct Piece {
    UnitId unit;
    std::size_t vector;
    std::uint64_t elements;
    bool is_first;
    double bytes;
    JobId packed;
    JobId drained = kNoJob;   ///< after this it can be added
    bool is_leaving = false;  ///< it has a slot
  };
  /// A part of a home on its way to the disk.
  struct Writing {
    UnitId unit;
    std::size_t vector;
    JobId written;
  };

  void accumulate(UnitId unit, std::size_t vector, JobId computed);
  /// Bytes of an element that comes from backward.
  [[nodiscard]] double width_of(const VectorShape& vector) const;
  [[nodiscard]] std::uint64_t elements_at_once(UnitId unit, std::size_t vector) const;
  void finish(UnitId unit, std::size_t vector);
  void drain_what_can();
  void drain(Piece& piece);
  void add_oldest_piece();
  void add_at_home(const Piece& piece);
  void share_sums(const Piece& piece);
  void check(Hop hop, double bytes, JobId after);
  void make_slot_for_home();
  void wait_for_oldest_write();

  const Plan& plan_;
  const PlanInput& input_;
  const std::vector<UnitShape>& shapes_;
  const bool are_sums_;
  const bool goes_straight_;  ///< to the home, without a bucket
  StepJobs& jobs_;
  const std::size_t buckets_;
  const std::size_t leaving_max_;
  std::vector<Unit> units_;
  std::deque<Piece> pieces_;  ///< packed, to be drained and added
  std::deque<Writing> writing_;
};

}  // namespace strata::zero3::forecast
