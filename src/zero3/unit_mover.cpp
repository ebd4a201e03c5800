#include "zero3/unit_mover.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/tiering/movement.h"
#include "strata/tiering/start_transfer.h"

namespace strata::zero3 {

using tiering::StreamRole;

namespace {

// Most pieces under way: gradients and states need transfers too, and a queue has a limited number
// of them. A disk is busy with far fewer.
constexpr std::size_t kUnderWayMax = 256;

/// The tier that a unit's weights rest in; a unit without any has no need of the disk.
tiering::Tier weights_tier(const Unit& unit) {
  for (const FlatVector& vector : unit.vectors()) {
    if (vector.weight().extent) return tiering::Tier::kNvme;
    if (!vector.weight().device.empty()) return tiering::Tier::kDevice;
  }
  return tiering::Tier::kHost;
}

/// A unit that does not come from the disk has no pieces.
std::vector<ScheduledUnit> scheduled(const std::vector<std::shared_ptr<Unit>>& units,
                                     const tiering::SlotPool* slots) {
  std::vector<ScheduledUnit> scheduled;
  for (const auto& unit : units) {
    ScheduledUnit& as_seen = scheduled.emplace_back();
    as_seen.name = unit->name();
    as_seen.region_bytes = unit->region_bytes();
    for (const FlatVector& vector : unit->vectors()) {
      as_seen.elements += vector.count;
      if (vector.weight().extent) {
        as_seen.pieces +=
            static_cast<std::uint32_t>(ceil_div(vector.shard_bytes(), slots->slot_bytes()));
      }
    }
  }
  return scheduled;
}

}  // namespace

UnitMover::UnitMover(const ScheduleOptions& options,
                     const std::vector<std::shared_ptr<Unit>>& units, const Places& places,
                     Counters& counters)
    : into_regions_(options.fetches_into_regions),
      units_(units),
      places_(places),
      counters_(counters),
      schedule_(options, scheduled(units, places.slots)),
      last_use_(units.size()),
      from_home_(units.size()) {}

// ---- events ----------------------------------------------------------------------------------

void UnitMover::enter(Unit& unit, Pass pass, View view) {
  unit.check_parameters();
  if (places_.updates != nullptr) places_.updates->wait_for(unit.id());
  const std::span<const Action> actions = schedule_.enter(unit.id(), pass, view);
  try {
    carry_out(actions);
  } catch (...) {
    if (unit.is_attached()) {
      leave(unit);
    } else {
      drop(unit.id());
      schedule_.fail(unit.id());
    }
    throw;
  }
}

void UnitMover::leave(Unit& unit) {
  if (std::exchange(unit.spoiled, false)) schedule_.spoil(unit.id());
  try {
    last_use_[unit.id()] = places_.device.record(StreamRole::kCompute);
  } catch (const DeviceError&) {
    last_use_[unit.id()] = {};  // the next use of the device learns that nothing more is done
  }
  carry_out(schedule_.leave(unit.id()));
}

void UnitMover::change_weights(Unit& unit) {
  unit.weights_changed();
  carry_out(schedule_.change_weights(unit.id()));
  const tiering::Tier home = weights_tier(unit);
  if (home == tiering::Tier::kHost) {
    std::exchange(from_home_[unit.id()], {}).synchronize(tiering::kDevicePatience);
    for (const FlatVector& vector : unit.vectors()) {
      places_.device.note_host_write(vector.weight().memory);
    }
  } else if (home == tiering::Tier::kDevice) {
    places_.device.wait(StreamRole::kDrain, last_use_[unit.id()]);
    places_.device.wait(StreamRole::kUpload, last_use_[unit.id()]);
  }
}

void UnitMover::release_staging() {
  carry_out(schedule_.release_staging());
  while (!uploads_.empty()) finish_oldest_upload();
}

const Unit* UnitMover::unit_in_use() const {
  const std::optional<UnitId> unit = schedule_.unit_in_use();
  return unit ? units_[*unit].get() : nullptr;
}

// ---- actions ---------------------------------------------------------------------------------

void UnitMover::carry_out(std::span<const Action> actions) {
  for (const Action& action : actions) carry_out(action);
}

void UnitMover::carry_out(const Action& action) {
  Unit& unit = *units_[action.unit];
  switch (action.kind) {
    case Action::Kind::kEvict:
      give_back(unit.region(), last_use_[action.unit]);
      unit.detach();
      return;
    case Action::Kind::kDrop: drop(action.unit); return;
    case Action::Kind::kFetch: {
      Arrival& arrival = arrivals_.try_emplace(action.unit, Arrival{&unit}).first->second;
      arrival.region = memory_of(action.region);
      if (have_delivered(arrival)) return;
      arrival.pieces_wanted += action.pieces;
      if (!std::exchange(arrival.is_starting, true)) starting_.push_back(action.unit);
      start_waiting();
      return;
    }
    case Action::Kind::kUnshard: unshard(unit, memory_of(action.region)); return;
  }
}

tiering::DeviceSpan UnitMover::memory_of(const std::optional<tiering::Region>& region) const {
  if (!region) return {};
  return places_.regions.subspan(region->offset, region->bytes);
}

std::vector<tiering::Event> UnitMover::take_over(tiering::DeviceSpan region) {
  return freed_.take({region.address() - places_.regions.address(), region.bytes()});
}

void UnitMover::order_uploads_behind_those_before(tiering::DeviceSpan region) {
  for (const tiering::Event& event : take_over(region)) {
    places_.device.wait(StreamRole::kUpload, event);
  }
}

void UnitMover::give_back(tiering::DeviceSpan region, tiering::Event last_use) {
  if (region.empty()) return;
  freed_.add({region.address() - places_.regions.address(), region.bytes()}, std::move(last_use));
}

bool UnitMover::have_delivered(Arrival& arrival) {
  const Unit& unit = *arrival.unit;
  if (!into_regions_ || arrival.region.empty() || !is_changing(unit)) return false;
  std::vector<std::span<std::byte>> targets;
  for (const FlatVector& vector : unit.vectors()) {
    if (vector.count == 0) continue;
    if (!vector.trains()) return false;
    targets.push_back(own_region(arrival).subspan(vector.shard_offset(), vector.shard_bytes()));
  }
  if (!places_.updates->deliver(unit.id(), targets)) return false;
  arrival.is_delivered = true;
  arrival.vector = unit.vectors().size();
  return true;
}

void UnitMover::unshard(Unit& unit, tiering::DeviceSpan region) {
  if (weights_tier(unit) == tiering::Tier::kNvme) {
    Arrival& arrival = arrivals_.try_emplace(unit.id(), Arrival{&unit}).first->second;
    arrival.region = region;
    arrival.pieces_wanted = std::numeric_limits<std::uint32_t>::max();
    if (std::exchange(arrival.is_starting, false)) std::erase(starting_, unit.id());
    receive(arrival);
    arrivals_.erase(unit.id());
    start_waiting();
  } else if (!region.empty()) {
    upload_from_home(unit, region);
  }
  gather(unit, region);
  const ScopedTimer busy(counters_, Hop::kGather, ScopedTimer::Kind::kBusy, unit.name());
  unit.attach(region);
}

void UnitMover::upload_from_home(const Unit& unit, tiering::DeviceSpan region) {
  order_uploads_behind_those_before(region);
  tiering::Event& uploaded = from_home_[unit.id()];
  for (const FlatVector& vector : unit.vectors()) {
    if (vector.count == 0) continue;
    const tiering::DeviceSpan target = region.subspan(vector.shard_offset(), vector.shard_bytes());
    if (!vector.weight().device.empty()) {
      places_.device.copy_within(StreamRole::kUpload, vector.weight().device, target);
      uploaded = places_.device.record(StreamRole::kUpload);
    } else {
      uploaded =
          tiering::upload(places_.device, vector.weight().memory, target, counters_).into_event();
    }
  }
  places_.device.wait(StreamRole::kCompute, uploaded);
}

/// Gathers the shards. What a rank keeps whole is there.
void UnitMover::gather(const Unit& unit, tiering::DeviceSpan region) {
  std::vector<tiering::DeviceSpan> vectors;
  for (const FlatVector& vector : unit.vectors()) {
    if (vector.count == 0) continue;
    counters_.add_moved(Hop::kGather, vector.gathered_bytes());
    if (region.empty() || vector.is_whole()) continue;
    vectors.push_back(region.subspan(vector.region_offset, vector.gathered_bytes()));
  }
  const ScopedTimer waiting(counters_, Hop::kGather, ScopedTimer::Kind::kWait, unit.name());
  places_.exchange.gather(vectors);
}

/// Waits for the disk, and makes computation wait for the device.
void UnitMover::receive(Arrival& arrival) {
  while (true) {
    start_pieces(arrival);
    if (arrival.pieces.empty()) {
      if (arrival.pieces_wanted == 0) break;
      make_room_for(arrival);
      continue;
    }
    Piece piece = std::move(arrival.pieces.front());
    arrival.pieces.pop_front();
    wait_for(piece);
    if (piece.slot) upload(arrival, std::move(piece));
  }
  places_.device.wait(StreamRole::kCompute, arrival.uploaded);
}

void UnitMover::upload(Arrival& arrival, Piece piece) {
  if (!std::exchange(arrival.owns_region, true)) order_uploads_behind_those_before(arrival.region);
  tiering::DeviceCopy copy = tiering::upload(
      places_.device, piece.slot->bytes().first(piece.range.bytes),
      arrival.region.subspan(piece.vector->shard_offset() + piece.range.offset, piece.range.bytes),
      counters_);
  arrival.uploaded = copy.event();
  uploads_.push_back({*std::move(piece.slot), std::move(copy)});
  if (!places_.device.properties().copies_are_asynchronous) finish_oldest_upload();
}

void UnitMover::finish_oldest_upload() {
  Upload oldest = std::move(uploads_.front());
  uploads_.pop_front();
  const ScopedTimer waiting(counters_, Hop::kUpload, ScopedTimer::Kind::kWait);
  oldest.copy.wait();
}

void UnitMover::start_waiting() {
  while (!starting_.empty()) {
    Arrival& first = arrivals_.at(starting_.front());
    start_pieces(first);
    if (first.pieces_wanted > 0) return;
    first.is_starting = false;
    starting_.pop_front();
  }
}

// ---- pieces ----------------------------------------------------------------------------------

bool UnitMover::is_changing(const Unit& unit) const {
  return places_.updates != nullptr && places_.updates->is_pending(unit.id());
}

void UnitMover::start_pieces(Arrival& arrival) {
  if (is_changing(*arrival.unit)) return;
  while (arrival.pieces_wanted > 0 && under_way_ < kUnderWayMax) {
    std::optional<Piece> piece = next_piece(arrival);
    if (!piece) {
      arrival.pieces_wanted = 0;
      return;
    }
    if (!start_piece(arrival, *std::move(piece))) return;
    --arrival.pieces_wanted;
  }
}

std::optional<UnitMover::Piece> UnitMover::next_piece(Arrival& arrival) const {
  const FlatVectors& vectors = arrival.unit->vectors();
  while (arrival.vector < vectors.size() &&
         arrival.offset == vectors[arrival.vector].shard_bytes()) {
    ++arrival.vector;
    arrival.offset = 0;
  }
  if (arrival.vector == vectors.size()) return std::nullopt;
  const FlatVector& vector = vectors[arrival.vector];
  return Piece{&vector,
               {arrival.offset,
                std::min(places_.slots->slot_bytes(), vector.shard_bytes() - arrival.offset)},
               std::nullopt};
}

std::span<std::byte> UnitMover::own_region(Arrival& arrival) {
  if (!std::exchange(arrival.owns_region, true)) {
    for (const tiering::Event& event : take_over(arrival.region)) {
      event.synchronize(tiering::kDevicePatience);
    }
  }
  return *places_.device.host_view(arrival.region);
}

bool UnitMover::start_piece(Arrival& arrival, Piece piece) {
  std::span<std::byte> target;
  if (arrival.region.empty() || !into_regions_) {
    piece.slot = acquire_slot();
    if (!piece.slot) return false;
    target = piece.slot->bytes();
    places_.device.note_host_write(target);
  } else {
    target = own_region(arrival).subspan(piece.vector->shard_offset() + piece.range.offset);
  }
  piece.transfer =
      tiering::fetch(*places_.store, *piece.vector->weight().extent, piece.range, target);
  if (!piece.transfer) return false;
  ++under_way_;
  arrival.offset += piece.range.bytes;
  arrival.pieces.push_back(std::move(piece));
  return true;
}

std::optional<tiering::StagingSlot> UnitMover::acquire_slot() {
  std::optional<tiering::StagingSlot> slot = places_.slots->try_acquire();
  while (!slot && !uploads_.empty() && uploads_.front().copy.done()) {
    finish_oldest_upload();
    slot = places_.slots->try_acquire();
  }
  return slot;
}

void UnitMover::wait_for(Piece& piece) {
  if (piece.failure) std::rethrow_exception(piece.failure);
  if (!piece.transfer) return;
  const ScopedTimer waiting(counters_, Hop::kFetch, ScopedTimer::Kind::kWait,
                            piece.vector->states.name, piece.range.bytes);
  tiering::Transfer transfer = *std::exchange(piece.transfer, std::nullopt);
  --under_way_;
  transfer.wait();
}

void UnitMover::drop(UnitId unit) {
  const auto found = arrivals_.find(unit);
  if (found == arrivals_.end()) return;
  if (found->second.is_delivered) places_.updates->withdraw(unit);
  for (const Piece& piece : found->second.pieces) under_way_ -= piece.transfer ? 1 : 0;
  // Transfers wait for their ends when they are destroyed. A region that a deadline left to the
  // kernel for good does no harm: the queue accepts nothing more then.
  if (found->second.is_starting) std::erase(starting_, unit);
  if (found->second.uploaded.state() != nullptr) {
    give_back(found->second.region, found->second.uploaded);
  }
  arrivals_.erase(found);
}

/// Makes room after a "not now" with nothing of the unit's own under way: slots are being uploaded
/// from, or the I/O queue is full of others' transfers.
void UnitMover::make_room_for(const Arrival& arrival) {
  if (!uploads_.empty()) {
    finish_oldest_upload();
    return;
  }
  if (wait_for_any()) return;
  STRATA_CHECK(into_regions_ || places_.slots->free_count() > 0,
               "unit '" + arrival.unit->name() + "' has no slot to come through");
  tiering::wait_for_room(*places_.store);
}

bool UnitMover::wait_for_any() {
  for (auto& [id, arrival] : arrivals_) {
    for (Piece& piece : arrival.pieces) {
      if (!piece.transfer) continue;
      try {
        wait_for(piece);
      } catch (...) {
        piece.failure = std::current_exception();
      }
      return true;
    }
  }
  return false;
}

}  // namespace strata::zero3
