#include "zero3/forecast/weights.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::zero3::forecast {

using tiering::Region;
using tiering::Tier;

namespace {

// Pieces that are fetched as one leave this share of the slots to others.
constexpr std::uint64_t kSlotsPerPart = 4;

bool touch(const Region& a, const Region& b) {
  return a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

ScheduleOptions options_of(const Plan& plan, const PlanInput& input, bool hands_over) {
  ScheduleOptions options = schedule_options(plan, input);
  options.step_hands_over = options.step_hands_over && hands_over;
  return options;
}

/// The later of two jobs of one queue.
JobId later(JobId a, JobId b) {
  if (a == kNoJob) return b;
  return b == kNoJob ? a : std::max(a, b);
}

}  // namespace

Weights::Weights(const Plan& plan, const PlanInput& input, const std::vector<UnitShape>& shapes,
                 StepJobs& jobs, bool hands_over)
    : plan_(plan),
      input_(input),
      shapes_(shapes),
      jobs_(jobs),
      options_(options_of(plan, input, hands_over)),
      schedule_(options_, scheduled_units(plan, input)),
      units_(shapes.size()),
      arrivals_(shapes.size()),
      free_slots_(plan.fetch_slots, kNoJob) {}

// ---- events ------------------------------------------------------------------------------------

void Weights::begin_step() {
  entered_.reset();
  carry_out(schedule_.begin_step());
}

void Weights::enter(UnitId unit, Pass pass) {
  entered_ = unit;
  units_[unit].delivers = false;
  carry_out(schedule_.enter(unit, pass, View::kTraining));
}

JobId Weights::compute(UnitId unit, double flop, JobId after) {
  Unit& used = units_[unit];
  used.last_use = jobs_.start(JobQueue::kCompute, Hop::kCompute, StepLane::kCompute, flop,
                              {used.readable, used.updated, after});
  if (jobs_.program_computes()) jobs_.wait_for(Hop::kCompute, used.last_use);
  return used.last_use;
}

void Weights::leave(UnitId unit) { carry_out(schedule_.leave(unit)); }

void Weights::change(UnitId unit, JobId updated, bool delivers) {
  units_[unit].updated = updated;
  units_[unit].delivers = delivers;
  carry_out(schedule_.change_weights(unit));
}

// ---- actions -----------------------------------------------------------------------------------

void Weights::carry_out(std::span<const Action> actions) {
  for (const Action& action : actions) {
    switch (action.kind) {
      case Action::Kind::kEvict:
        give_back(units_[action.unit].region, units_[action.unit].last_use);
        units_[action.unit].region.reset();
        break;
      case Action::Kind::kDrop: drop(action.unit); break;
      case Action::Kind::kFetch: fetch(action); break;
      case Action::Kind::kUnshard: unshard(action.unit, action.region); break;
    }
  }
}

void Weights::fetch(const Action& action) {
  Arrival& arrival = arrival_of(action.unit);
  if (action.region) arrival.region = action.region;
  if (into_regions(arrival) && arrival.pieces.empty() && may_deliver(action.unit)) {
    arrival.is_delivered = true;
    arrival.vector = shapes_[action.unit].vectors.size();
    return;
  }
  arrival.wanted += action.pieces;
  if (std::find(starting_.begin(), starting_.end(), action.unit) == starting_.end()) {
    starting_.push_back(action.unit);
  }
  start_waiting();
}

/// Whether the windows have not come to a unit's update yet: those that are under way lie behind
/// the last unit that was entered, whose own update was complete then.
bool Weights::may_deliver(UnitId unit) const {
  if (!units_[unit].delivers || plan_.windows == 0) return false;
  for (const VectorShape& vector : shapes_[unit].vectors) {
    if (!vector.trains) return false;
  }
  if (!entered_) return true;  // no update has begun
  std::uint64_t between = 0;
  for (UnitId other = *entered_ + 1; other < unit; ++other) {
    if (!units_[other].delivers) continue;  // updated under backward
    for (const VectorShape& vector : shapes_[other].vectors) between += vector.shard_elements;
  }
  return between >= (plan_.windows - 1) * plan_.window_elements;
}

void Weights::drop(UnitId unit) {
  if (!arrivals_[unit]) return;
  Arrival& arrival = *arrivals_[unit];
  JobId last = arrival.uploaded;
  for (const Pieces& pieces : arrival.pieces) {
    free_slots_.insert(free_slots_.end(), pieces.slots, pieces.fetched);
    last = later(last, pieces.fetched);
  }
  give_back(arrival.region, last);
  std::erase(starting_, unit);
  arrivals_[unit].reset();
}

void Weights::unshard(UnitId unit, const std::optional<Region>& region) {
  units_[unit].region = region;
  units_[unit].readable = kNoJob;
  if (options_.home == Tier::kNvme && !shapes_[unit].cached.has(StateKind::kWeight)) {
    Arrival& arrival = arrival_of(unit);
    arrival.region = region;
    arrival.wanted = std::numeric_limits<std::uint32_t>::max();
    std::erase(starting_, unit);
    const bool is_delivered = arrival.is_delivered;
    receive(unit, arrival);
    if (is_delivered) upload_from_windows(unit);
    arrivals_[unit].reset();
    start_waiting();
  } else if (region) {
    upload_from_home(unit);
  }
  gather(unit);
}

void Weights::receive(UnitId unit, Arrival& arrival) {
  while (true) {
    start_pieces(unit, arrival);
    if (arrival.pieces.empty()) {
      STRATA_CHECK(arrival.wanted == 0, "a unit has no slot to come through");
      return;
    }
    const Pieces pieces = arrival.pieces.front();
    arrival.pieces.pop_front();
    jobs_.wait_for(Hop::kFetch, pieces.fetched);
    units_[unit].readable = pieces.fetched;
    if (jobs_.checks()) {
      units_[unit].readable = jobs_.start(JobQueue::kProgramCheck, Hop::kFetch, StepLane::kCheck,
                                          pieces.bytes, {pieces.fetched});
      jobs_.wait_for(Hop::kFetch, units_[unit].readable);
    }
    if (pieces.slots > 0) upload(unit, arrival, pieces);
  }
}

void Weights::upload(UnitId unit, Arrival& arrival, const Pieces& pieces) {
  const JobId before = arrival.uploaded == kNoJob ? freed_by(arrival.region) : kNoJob;
  arrival.uploaded = jobs_.start(JobQueue::kUpload, Hop::kUpload, StepLane::kUpload, pieces.bytes,
                                 {pieces.fetched, before});
  free_slots_.insert(free_slots_.end(), pieces.slots, arrival.uploaded);
  units_[unit].readable = arrival.uploaded;
  if (jobs_.program_computes()) jobs_.wait_for(Hop::kUpload, arrival.uploaded);
}

/// Each window gives its weights to the region once it is updated.
void Weights::upload_from_windows(UnitId unit) {
  Unit& entered = units_[unit];
  for (const VectorShape& vector : shapes_[unit].vectors) {
    entered.readable = jobs_.start(JobQueue::kWindowUpload, Hop::kUpload, StepLane::kUpload,
                                   static_cast<double>(vector.shard_bytes()), {entered.updated});
  }
}

void Weights::upload_from_home(UnitId unit) {
  // A shard that rests on the device moves within its memory, which takes no lane.
  if (input_.parameter_tier == Tier::kDevice) return;
  Unit& entered = units_[unit];
  const JobId before = freed_by(entered.region);
  for (const VectorShape& vector : shapes_[unit].vectors) {
    entered.readable =
        jobs_.start(JobQueue::kUpload, Hop::kUpload, StepLane::kUpload,
                    static_cast<double>(vector.shard_bytes()), {before, entered.updated});
  }
  if (jobs_.program_computes()) jobs_.wait_for(Hop::kUpload, entered.readable);
}

void Weights::gather(UnitId unit) {
  Unit& entered = units_[unit];
  for (const VectorShape& vector : shapes_[unit].vectors) {
    const auto bytes = static_cast<double>(vector.gathered_bytes);
    jobs_.count(Hop::kGather, bytes);
    if (input_.states_are_whole()) continue;
    entered.readable = jobs_.start(JobQueue::kExchange, Hop::kGather, StepLane::kExchange,
                                   jobs_.from_others(bytes), {entered.readable, entered.updated});
  }
  if (!input_.states_are_whole()) jobs_.wait_for(Hop::kGather, entered.readable);
}

// ---- pieces ------------------------------------------------------------------------------------

Weights::Arrival& Weights::arrival_of(UnitId unit) {
  if (!arrivals_[unit]) arrivals_[unit].emplace();
  return *arrivals_[unit];
}

void Weights::start_waiting() {
  while (!starting_.empty()) {
    const UnitId unit = starting_.front();
    start_pieces(unit, *arrivals_[unit]);
    if (arrivals_[unit]->wanted > 0) return;
    starting_.pop_front();
  }
}

void Weights::start_pieces(UnitId unit, Arrival& arrival) {
  const std::vector<VectorShape>& vectors = shapes_[unit].vectors;
  while (arrival.wanted > 0) {
    while (arrival.vector < vectors.size() &&
           arrival.offset == vectors[arrival.vector].shard_bytes()) {
      ++arrival.vector;
      arrival.offset = 0;
    }
    if (arrival.vector == vectors.size()) {
      arrival.wanted = 0;
      return;
    }
    const std::uint64_t whole = vectors[arrival.vector].shard_bytes();
    std::uint64_t pieces = std::min<std::uint64_t>(
        arrival.wanted, jobs_.part_of(whole, plan_.slot_bytes) / plan_.slot_bytes);
    JobId free = kNoJob;
    if (into_regions(arrival)) {
      free = freed_by(arrival.region);
    } else {
      pieces = std::min<std::uint64_t>(
          pieces, std::max<std::uint64_t>(1, plan_.fetch_slots / kSlotsPerPart));
      pieces = std::min<std::uint64_t>(pieces, free_slots_.size());
      if (pieces == 0) return;
    }
    const std::uint64_t bytes = std::min(pieces * plan_.slot_bytes, whole - arrival.offset);
    pieces = ceil_div(bytes, plan_.slot_bytes);
    Pieces& started = arrival.pieces.emplace_back();
    if (!into_regions(arrival)) {
      started.slots = static_cast<std::uint32_t>(pieces);
      for (std::uint64_t i = 0; i < pieces; ++i) {
        free = later(free, free_slots_.front());
        free_slots_.pop_front();
      }
    }
    started.bytes = static_cast<double>(bytes);
    started.fetched = jobs_.start(JobQueue::kFetch, Hop::kFetch, StepLane::kDiskRead, started.bytes,
                                  {free, units_[unit].updated});
    arrival.offset += bytes;
    arrival.wanted -= static_cast<std::uint32_t>(pieces);
  }
}

// ---- regions -----------------------------------------------------------------------------------

JobId Weights::freed_by(const std::optional<Region>& region) const {
  JobId last = kNoJob;
  if (!region) return last;
  for (const Freed& freed : freed_) {
    if (touch(freed.region, *region)) last = later(last, freed.after);
  }
  return last;
}

/// What lay there before was used before.
void Weights::give_back(const std::optional<Region>& region, JobId after) {
  if (!region || after == kNoJob) return;
  std::erase_if(freed_, [&](const Freed& freed) {
    return freed.region.offset >= region->offset &&
           freed.region.offset + freed.region.bytes <= region->offset + region->bytes;
  });
  freed_.push_back({*region, after});
}

}  // namespace strata::zero3::forecast
