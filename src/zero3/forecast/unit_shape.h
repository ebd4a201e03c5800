#pragma once

#include <cstdint>
#include <vector>

#include "strata/zero3/plan.h"
#include "zero3/schedule.h"

/// \file
/// A unit as the forecast sees it: counts and formats.

namespace strata::zero3::forecast {

/// A flat vector, and what one rank keeps of it.
struct VectorShape {
  bool trains = false;
  StateFormat format;
  std::uint64_t shard_elements = 0;    ///< in its homes; all in stage 0
  std::uint64_t reduced_elements = 0;  ///< of its gradient, those that it adds up
  std::uint64_t gathered_bytes = 0;    ///< the shards of all ranks

  [[nodiscard]] std::uint64_t shard_bytes() const {
    return shard_elements * weight_bytes(format.precision);
  }
};

/// A unit's vectors that have elements, in the order in which they lie in its region.
struct UnitShape {
  std::vector<VectorShape> vectors;
  bool gradient_on_nvme = false;
  CachedStates cached{};
};

/// Bytes of the states that an update reads and writes, for one element.
struct StateBytes {
  double of_disk = 0, of_device = 0, in_all = 0;
};
[[nodiscard]] StateBytes state_bytes_of(const PlanInput& input, const UnitShape& unit,
                                        const StateFormat& format);

[[nodiscard]] std::vector<UnitShape> unit_shapes(const Plan& plan, const PlanInput& input);

/// The units as UnitMover shows them to its schedule.
[[nodiscard]] std::vector<ScheduledUnit> scheduled_units(const Plan& plan, const PlanInput& input);

}  // namespace strata::zero3::forecast
