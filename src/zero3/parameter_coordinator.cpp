#include "zero3/parameter_coordinator.h"

#include <limits>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/tiering/movement.h"
#include "zero3/gather.h"

namespace strata::zero3 {

void ParameterCoordinator::unshard(Unit& unit, Pass pass, bool evaluating) {
  // Evaluation before the first training step says nothing about the order of a micro-batch.
  if (!evaluating || trace_.recorded()) trace_.enter({unit.id(), pass});
  ++tick_;
  if (unit.residency() == Residency::kUnsharded || unit.residency() == Residency::kCached) {
    unit.pin(tick_);
  } else {
    const std::span<std::byte> region = make_room(unit);
    bring_in(unit, region);
    unit.to_unsharded(region, tick_);
    gather(unit, region, counters_);
  }
  prefetch(evaluating);
}

void ParameterCoordinator::reshard(Unit& unit) {
  unit.unpin();
  if (unit.spoiled && unit.residency() == Residency::kCached) evict(unit);
}

void ParameterCoordinator::invalidate(Unit& unit) {
  if (unit.residency() == Residency::kCached) evict(unit);
  if (unit.residency() == Residency::kUnsharded) unit.spoiled = true;
}

void ParameterCoordinator::drop_fetches() {
  if (stream_ != nullptr) stream_->clear();
}

const Unit* ParameterCoordinator::unit_in_use() const {
  for (const auto& unit : units_) {
    if (unit->residency() == Residency::kUnsharded) return unit.get();
  }
  return nullptr;
}

void ParameterCoordinator::bring_in(Unit& unit, std::span<std::byte> region) {
  if (region.empty()) return;
  if (stream_ != nullptr) {
    stream_->receive(unit, region);
    return;
  }
  for (const FlatVector& vector : unit.vectors()) {
    if (vector.count == 0) continue;
    tiering::upload(vector.weight.memory.first(vector.bytes),
                    region.subspan(vector.region_offset, vector.bytes), counters_);
  }
}

std::span<std::byte> ParameterCoordinator::make_room(Unit& unit) {
  if (regions_ == nullptr) return {};
  while (true) {
    if (auto region = regions_->try_take(unit.region_bytes())) return *region;
    Unit* victim = eviction_candidate();
    if (victim == nullptr) {
      throw BudgetError("unit '" + unit.name() + "' needs " + format_bytes(unit.region_bytes()) +
                        " of the device tier, whose " + format_bytes(regions_->capacity()) +
                        " for unsharded units are taken by units in use; units that run inside "
                        "one another need a larger device budget");
    }
    evict(*victim);
  }
}

Unit* ParameterCoordinator::eviction_candidate() {
  Unit* victim = nullptr;
  std::uint64_t victim_distance = 0;
  for (const auto& unit : units_) {
    if (unit->residency() != Residency::kCached) continue;
    const std::uint64_t distance =
        trace_.next_use(unit->id()).value_or(std::numeric_limits<std::size_t>::max());
    const bool later =
        distance > victim_distance ||
        (distance == victim_distance && victim != nullptr && unit->last_use() < victim->last_use());
    if (victim == nullptr || later) {
      victim = unit.get();
      victim_distance = distance;
    }
  }
  return victim;
}

void ParameterCoordinator::evict(Unit& unit) {
  unit.detach();
  if (!unit.region().empty()) regions_->give_back(unit.region());
  unit.to_sharded();
}

void ParameterCoordinator::prefetch(bool evaluating) {
  if (stream_ == nullptr) return;
  for (const UnitId id :
       trace_.upcoming(units_.size(), evaluating, last_micro_batch_ && !evaluating)) {
    if (stream_->scheduled_elements() >= options_.prefetch_elements) break;
    if (units_[id]->residency() == Residency::kSharded) stream_->schedule(*units_[id]);
  }
  stream_->pump();
}

}  // namespace strata::zero3
