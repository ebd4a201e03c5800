#include "zero3/unit_mover.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/tiering/movement.h"
#include "zero3/start_transfer.h"

namespace strata::zero3 {

namespace {

// Pieces under way at most: gradients and states need transfers too, and a queue has a number of
// them. A disk is busy with far fewer.
constexpr std::size_t kUnderWayMax = 256;

std::vector<ScheduledUnit> scheduled(const std::vector<std::shared_ptr<Unit>>& units,
                                     const tiering::PinnedSlots* slots) {
  std::vector<ScheduledUnit> scheduled;
  for (const auto& unit : units) {
    ScheduledUnit& as_seen = scheduled.emplace_back();
    as_seen.name = unit->name();
    as_seen.region_bytes = unit->region_bytes();
    for (const FlatVector& vector : unit->vectors()) {
      as_seen.elements += vector.count;
      if (slots != nullptr) {
        as_seen.pieces += static_cast<std::uint32_t>(ceil_div(vector.bytes, slots->slot_bytes()));
      }
    }
  }
  return scheduled;
}

}  // namespace

UnitMover::UnitMover(const ScheduleOptions& options, std::vector<std::shared_ptr<Unit>>& units,
                     const Places& places, Counters& counters)
    : home_(options.home),
      into_regions_(options.fetches_into_regions),
      units_(units),
      places_(places),
      counters_(counters),
      schedule_(options, scheduled(units, places.slots)) {}

// ---- events ----------------------------------------------------------------------------------

void UnitMover::enter(Unit& unit, Pass pass, View view) {
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

void UnitMover::leave(Unit& unit) { carry_out(schedule_.leave(unit.id())); }

void UnitMover::change_weights(Unit& unit) { carry_out(schedule_.change_weights(unit.id())); }

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
    case Action::Kind::kEvict: unit.detach(); return;
    case Action::Kind::kDrop: drop(action.unit); return;
    case Action::Kind::kFetch: {
      Arrival& arrival = arrivals_.try_emplace(action.unit, Arrival{&unit}).first->second;
      arrival.region = memory_of(action.region);
      arrival.pieces_wanted += action.pieces;
      if (!std::exchange(arrival.is_starting, true)) starting_.push_back(action.unit);
      start_waiting();
      return;
    }
    case Action::Kind::kUnshard: unshard(unit, memory_of(action.region)); return;
  }
}

std::span<std::byte> UnitMover::memory_of(const std::optional<tiering::Region>& region) const {
  if (!region) return {};
  return places_.device.subspan(region->offset, region->bytes);
}

void UnitMover::unshard(Unit& unit, std::span<std::byte> region) {
  if (home_ == tiering::Tier::kNvme) {
    Arrival& arrival = arrivals_.try_emplace(unit.id(), Arrival{&unit}).first->second;
    arrival.region = region;
    arrival.pieces_wanted = std::numeric_limits<std::uint32_t>::max();
    if (std::exchange(arrival.is_starting, false)) std::erase(starting_, unit.id());
    receive(arrival);
    arrivals_.erase(unit.id());
    start_waiting();
  } else if (home_ == tiering::Tier::kHost) {
    upload_from_home(unit, region);
  }
  const ScopedTimer busy(counters_, Hop::kGather, ScopedTimer::Kind::kBusy);
  unit.attach(region);  // with one rank the shard is the whole unit: nothing is copied
  for (const FlatVector& vector : unit.vectors()) {
    if (vector.count > 0) counters_.add_moved(Hop::kGather, vector.bytes);
  }
}

void UnitMover::upload_from_home(const Unit& unit, std::span<std::byte> region) {
  for (const FlatVector& vector : unit.vectors()) {
    if (vector.count == 0) continue;
    tiering::upload(vector.weight.memory.first(vector.bytes),
                    region.subspan(vector.region_offset, vector.bytes), counters_);
  }
}

void UnitMover::receive(Arrival& arrival) {
  while (true) {
    start_pieces(arrival);
    if (arrival.pieces.empty()) {
      if (arrival.pieces_wanted == 0) return;
      make_room_for(arrival);
      continue;
    }
    Piece piece = std::move(arrival.pieces.front());
    arrival.pieces.pop_front();
    wait_for(piece);
    if (!piece.slot) continue;
    tiering::upload(
        piece.slot->bytes().first(piece.range.bytes),
        arrival.region.subspan(piece.vector->region_offset + piece.range.offset, piece.range.bytes),
        counters_);
  }
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

void UnitMover::start_pieces(Arrival& arrival) {
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
  while (arrival.vector < vectors.size() && arrival.offset == vectors[arrival.vector].bytes) {
    ++arrival.vector;
    arrival.offset = 0;
  }
  if (arrival.vector == vectors.size()) return std::nullopt;
  const FlatVector& vector = vectors[arrival.vector];
  return Piece{
      &vector,
      {arrival.offset, std::min(places_.slots->slot_bytes(), vector.bytes - arrival.offset)},
      std::nullopt};
}

bool UnitMover::start_piece(Arrival& arrival, Piece piece) {
  std::span<std::byte> target;
  if (arrival.region.empty() || !into_regions_) {
    piece.slot = places_.slots->try_acquire();
    if (!piece.slot) return false;
    target = piece.slot->bytes();
  } else {
    target = arrival.region.subspan(piece.vector->region_offset + piece.range.offset);
  }
  piece.transfer =
      tiering::fetch(*places_.store, *piece.vector->weight.extent, piece.range, target);
  if (!piece.transfer) return false;
  ++under_way_;
  arrival.offset += piece.range.bytes;
  arrival.pieces.push_back(std::move(piece));
  return true;
}

void UnitMover::wait_for(Piece& piece) {
  if (piece.failure) std::rethrow_exception(piece.failure);
  if (!piece.transfer) return;
  const ScopedTimer waiting(counters_, Hop::kFetch, ScopedTimer::Kind::kWait);
  tiering::Transfer transfer = *std::exchange(piece.transfer, std::nullopt);
  --under_way_;
  transfer.wait();
}

void UnitMover::drop(UnitId unit) {
  const auto found = arrivals_.find(unit);
  if (found == arrivals_.end()) return;
  for (const Piece& piece : found->second.pieces) under_way_ -= piece.transfer ? 1 : 0;
  // Transfers wait for their ends when they are destroyed. What a deadline made the kernel's for
  // good does no harm in a region: the queue accepts nothing more then.
  if (found->second.is_starting) std::erase(starting_, unit);
  arrivals_.erase(found);
}

/// After a "not now" with nothing of the unit's own under way: the I/O queue is full of others'.
void UnitMover::make_room_for(const Arrival& arrival) {
  if (wait_for_any()) return;
  STRATA_CHECK(into_regions_ || places_.slots->free_count() > 0,
               "unit '" + arrival.unit->name() + "' has no slot to come through");
  wait_for_room(*places_.store);
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
