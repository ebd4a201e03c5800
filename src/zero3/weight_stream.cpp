#include "zero3/weight_stream.h"

#include <algorithm>
#include <utility>

#include "strata/base/error.h"
#include "strata/tiering/movement.h"

namespace strata::zero3 {

namespace {

std::uint64_t elements_of(const Unit& unit) {
  std::uint64_t elements = 0;
  for (const FlatVector& vector : unit.vectors()) elements += vector.count;
  return elements;
}

}  // namespace

void WeightStream::schedule(Unit& unit) {
  unit.to_fetching();
  scheduled_.push_back({&unit});
  scheduled_elements_ += elements_of(unit);
}

void WeightStream::pump() {
  for (Scheduled& scheduled : scheduled_) {
    while (!scheduled.all_started) {
      if (!start_next_piece(scheduled)) return;
    }
  }
}

bool WeightStream::start_next_piece(Scheduled& scheduled) {
  auto& vectors = scheduled.unit->vectors();
  while (scheduled.vector < vectors.size() && scheduled.offset == vectors[scheduled.vector].bytes) {
    ++scheduled.vector;
    scheduled.offset = 0;
  }
  if (scheduled.vector == vectors.size()) {
    scheduled.all_started = true;
    return true;
  }
  FlatVector& vector = vectors[scheduled.vector];
  const tiering::ByteRange range{scheduled.offset,
                                 std::min(slots_.slot_bytes(), vector.bytes - scheduled.offset)};
  auto slot = slots_.try_acquire();
  if (!slot) return false;
  auto transfer = tiering::fetch(store_, *vector.weight.extent, range, slot->bytes());
  if (!transfer) return false;
  in_flight_.push_back({&vector, range, std::move(*slot), std::move(*transfer)});
  scheduled.offset += range.bytes;
  ++scheduled.pieces_started;
  return true;
}

void WeightStream::receive_piece(std::span<std::byte> region) {
  Piece piece = std::move(in_flight_.front());
  in_flight_.pop_front();
  {
    ScopedTimer waiting(counters_, Hop::kFetch, ScopedTimer::Kind::kWait);
    piece.transfer.wait();
  }
  tiering::upload(
      piece.slot.bytes().first(piece.range.bytes),
      region.subspan(piece.vector->region_offset + piece.range.offset, piece.range.bytes),
      counters_);
}

void WeightStream::receive(Unit& unit, std::span<std::byte> region) {
  if (!scheduled_.empty() && scheduled_.front().unit != &unit) clear();
  if (scheduled_.empty()) schedule(unit);
  Scheduled& scheduled = scheduled_.front();
  pump();
  while (!scheduled.all_started || scheduled.pieces_received < scheduled.pieces_started) {
    STRATA_CHECK(!in_flight_.empty(), "no piece of unit " + unit.name() + " could be started");
    receive_piece(region);
    ++scheduled.pieces_received;
    pump();
  }
  scheduled_elements_ -= elements_of(unit);
  scheduled_.pop_front();
}

void WeightStream::clear() {
  in_flight_.clear();  // a Transfer waits for its end when it is destroyed
  for (Scheduled& scheduled : scheduled_) scheduled.unit->to_sharded();
  scheduled_.clear();
  scheduled_elements_ = 0;
}

}  // namespace strata::zero3
