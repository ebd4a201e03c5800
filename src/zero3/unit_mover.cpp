#include "zero3/unit_mover.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/tiering/movement.h"

namespace strata::zero3 {

namespace {

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
    case Action::Kind::kDrop:
      // Its transfers wait for their ends when they are destroyed. What a deadline made the
      // kernel's for good does no harm in a region: the queue accepts nothing more then.
      std::erase(starting_, action.unit);
      arrivals_.erase(action.unit);
      return;
    case Action::Kind::kFetch: {
      Arrival& arrival = arrivals_.try_emplace(action.unit, Arrival{&unit}).first->second;
      arrival.region = memory_of(action.region);
      arrival.pieces_wanted += action.pieces;
      if (std::find(starting_.begin(), starting_.end(), action.unit) == starting_.end()) {
        starting_.push_back(action.unit);
      }
      while (!starting_.empty()) {
        Arrival& first = arrivals_.at(starting_.front());
        start_pieces(first);
        if (first.pieces_wanted > 0) return;
        starting_.erase(starting_.begin());
      }
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
    const auto found = arrivals_.find(unit.id());
    Arrival arrival{&unit};
    if (found != arrivals_.end()) {
      arrival = std::move(found->second);
      arrivals_.erase(found);
      std::erase(starting_, unit.id());
    }
    arrival.region = region;
    arrival.pieces_wanted = std::numeric_limits<std::uint32_t>::max();
    receive(std::move(arrival));
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

void UnitMover::receive(Arrival arrival) {
  while (true) {
    start_pieces(arrival);
    if (arrival.pieces.empty()) {
      if (arrival.pieces_wanted == 0) return;
      const bool has_waited = wait_for_any();
      STRATA_CHECK(has_waited, "unit '" + arrival.unit->name() + "' has no slot to come through");
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

// ---- pieces ----------------------------------------------------------------------------------

void UnitMover::start_pieces(Arrival& arrival) {
  while (arrival.pieces_wanted > 0) {
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
  arrival.offset += piece.range.bytes;
  arrival.pieces.push_back(std::move(piece));
  return true;
}

void UnitMover::wait_for(Piece& piece) {
  if (piece.failure) std::rethrow_exception(piece.failure);
  if (!piece.transfer) return;
  const ScopedTimer waiting(counters_, Hop::kFetch, ScopedTimer::Kind::kWait);
  piece.transfer->wait();
  piece.transfer.reset();
}

bool UnitMover::wait_for_any() {
  for (auto& [id, arrival] : arrivals_) {
    for (Piece& piece : arrival.pieces) {
      if (!piece.transfer) continue;
      try {
        wait_for(piece);
      } catch (...) {
        piece.failure = std::current_exception();
        piece.transfer.reset();
      }
      return true;
    }
  }
  return false;
}

}  // namespace strata::zero3
