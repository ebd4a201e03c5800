#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "zero3/forecast/step_jobs.h"
#include "zero3/forecast/unit_shape.h"
#include "zero3/schedule.h"

/// \file
/// Hops fetch, upload, gather and compute as jobs: what UnitMover does with a schedule's actions.

namespace strata::zero3::forecast {

/// Drives the schedule and starts what it asks for. Where UnitMover looks at what is done, this
/// looks at what was started: a slot or region that is on its way to being free counts as free, and
/// the job that takes it waits for it.
class Weights {
 public:
  /// `hands_over`: the step goes on beside forward, and may give units their weights.
  Weights(const Plan& plan, const PlanInput& input, const std::vector<UnitShape>& shapes,
          StepJobs& jobs, bool hands_over);

  void enter(UnitId unit, Pass pass);
  /// Computes with a unit that was entered, `after` something else. Returns the job.
  JobId compute(UnitId unit, double flop, JobId after);
  void leave(UnitId unit);
  void end_micro_batch() { schedule_.end_micro_batch(/*complete=*/true); }
  void expect_step(bool follows) { schedule_.expect_step(follows); }
  void begin_step();
  /// Tells that a unit's weights will be others once `updated` is done. `delivers`: the update goes
  /// on beside the next forward, and gives them to a region that waits for them by then.
  void change(UnitId unit, JobId updated, bool delivers);

 private:
  struct Unit {
    JobId last_use = kNoJob;
    JobId updated = kNoJob;
    bool delivers = false;    ///< its update is to come, and may give its weights to a region
    JobId readable = kNoJob;  ///< its bytes are on the device then
    std::optional<tiering::Region> region;
  };
  /// Consecutive pieces of a vector, fetched as one.
  struct Pieces {
    std::uint32_t slots = 0;
    double bytes = 0;
    JobId fetched = kNoJob;
  };
  struct Arrival {
    std::size_t vector = 0;
    std::uint64_t offset = 0;  ///< in that vector
    std::uint32_t wanted = 0;  ///< pieces
    std::optional<tiering::Region> region;
    std::deque<Pieces> pieces;
    JobId uploaded = kNoJob;
    bool is_delivered = false;  ///< its update copies the weights there
  };
  /// A region that was given back, and the job after which it is free.
  struct Freed {
    tiering::Region region;
    JobId after;
  };

  void carry_out(std::span<const Action> actions);
  void fetch(const Action& action);
  [[nodiscard]] bool may_deliver(UnitId unit) const;
  void drop(UnitId unit);
  void unshard(UnitId unit, const std::optional<tiering::Region>& region);
  void receive(UnitId unit, Arrival& arrival);
  void upload(UnitId unit, Arrival& arrival, const Pieces& pieces);
  void upload_from_home(UnitId unit);
  void upload_from_windows(UnitId unit);
  void gather(UnitId unit);

  [[nodiscard]] Arrival& arrival_of(UnitId unit);
  void start_pieces(UnitId unit, Arrival& arrival);
  void start_waiting();
  [[nodiscard]] bool into_regions(const Arrival& arrival) const {
    return options_.fetches_into_regions && arrival.region.has_value();
  }
  [[nodiscard]] JobId freed_by(const std::optional<tiering::Region>& region) const;
  void give_back(const std::optional<tiering::Region>& region, JobId after);

  const Plan& plan_;
  const PlanInput& input_;
  const std::vector<UnitShape>& shapes_;
  StepJobs& jobs_;
  const ScheduleOptions options_;
  Schedule schedule_;
  std::vector<Unit> units_;
  std::vector<std::optional<Arrival>> arrivals_;
  std::deque<UnitId> starting_;   ///< units whose pieces wait for slots
  std::deque<JobId> free_slots_;  ///< each by the job after which it is free
  std::vector<Freed> freed_;
  std::optional<UnitId> entered_;  ///< the last one of this step
};

}  // namespace strata::zero3::forecast
