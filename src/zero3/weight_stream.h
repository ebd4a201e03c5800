#pragma once

#include <cstddef>
#include <deque>
#include <span>

#include "strata/base/counters.h"
#include "strata/tiering/pinned_slots.h"
#include "strata/tiering/shard_store.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// Weights on their way from nvme through pinned slots to the device (hops 1 and 2), unit after
/// unit.
///
/// Units are scheduled in the order in which they will be used and received in that order. As many
/// pieces are in flight as there are slots; a piece keeps its slot from the start of its fetch to
/// the end of its upload. Thread: the engine's.
class WeightStream {
 public:
  WeightStream(tiering::ShardStore& store, tiering::PinnedSlots& slots, Counters& counters)
      : store_(store), slots_(slots), counters_(counters) {}

  /// Appends a sharded unit, which becomes fetching.
  void schedule(Unit& unit);

  /// Elements of the units that are scheduled and not yet received.
  [[nodiscard]] std::uint64_t scheduled_elements() const noexcept { return scheduled_elements_; }

  /// Starts fetches while there are free slots. Never blocks.
  void pump();

  /// Brings `unit` into `region`, waiting for what has not arrived. It need not have been
  /// scheduled; when it is not the next one, what was scheduled is dropped first. Throws IoError,
  /// DeadlineExceeded, CorruptData.
  void receive(Unit& unit, std::span<std::byte> region);

  /// Waits for what is in flight and forgets everything scheduled; its units become sharded.
  void clear();

 private:
  struct Piece {
    FlatVector* vector;
    tiering::ByteRange range;
    tiering::PinnedSlot slot;
    tiering::Transfer transfer;
  };
  struct Scheduled {
    Unit* unit;
    std::size_t vector = 0;    // next piece to start: which of the unit's vectors,
    std::uint64_t offset = 0;  // and from which byte
    std::size_t pieces_started = 0;
    std::size_t pieces_received = 0;
    bool all_started = false;
  };

  bool start_next_piece(Scheduled& scheduled);
  void receive_piece(std::span<std::byte> region);

  tiering::ShardStore& store_;
  tiering::PinnedSlots& slots_;
  Counters& counters_;
  std::deque<Scheduled> scheduled_;
  std::deque<Piece> in_flight_;  // oldest first: the order of reception
  std::uint64_t scheduled_elements_ = 0;
};

}  // namespace strata::zero3
