#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "strata/base/counters.h"
#include "strata/tiering/region_allocator.h"
#include "zero3/order_trace.h"
#include "zero3/unit.h"
#include "zero3/weight_stream.h"

namespace strata::zero3 {

/// Decides which units are on the device: fetches the one that is needed, prefetches those that the
/// recorded order needs next, keeps what fits and evicts what is needed last (Belady's rule).
///
/// A unit is made usable by `unshard` and given back by `reshard`; between the two its parameters
/// can be read. Both may be nested, for different units or the same one.
/// Thread: the engine's.
class ParameterCoordinator {
 public:
  struct Options {
    std::uint64_t prefetch_elements = 0;  ///< fetched ahead of use at most
  };

  /// `regions` is null when the weights rest on the device, `stream` when they do not rest on nvme.
  ParameterCoordinator(const Options& options, std::vector<std::shared_ptr<Unit>>& units,
                       tiering::RegionAllocator* regions, WeightStream* stream, Counters& counters)
      : options_(options), units_(units), regions_(regions), stream_(stream), counters_(counters) {}

  /// Makes `unit` readable, waiting for its bytes. Prefetches the next units of the recorded order.
  /// `evaluating`: no backward will follow.
  /// Throws IoError, DeadlineExceeded, CorruptData; BudgetError when the units in use leave no
  /// room.
  void unshard(Unit& unit, Pass pass, bool evaluating);

  /// Gives `unit` back. Its bytes stay on the device as long as there is room, unless they are
  /// spoiled.
  void reshard(Unit& unit);

  /// The weights of `unit` at home have changed: what the device holds of them is not valid any
  /// more, once it is not in use.
  void invalidate(Unit& unit);

  /// Lets go of all that is scheduled, and with it of the staging slots.
  void drop_fetches();

  /// The first unit in use, or null.
  [[nodiscard]] const Unit* unit_in_use() const;

  /// Says whether a step follows the micro-batch under way. If so, nothing is prefetched beyond its
  /// end: the weights change in between.
  void set_last_micro_batch(bool last) { last_micro_batch_ = last; }

  /// A micro-batch is over.
  void end_cycle() { trace_.end_cycle(); }

  /// Starts fetching what comes next, at the start of a training step.
  void prefetch_first() { prefetch(/*evaluating=*/false); }

 private:
  void prefetch(bool evaluating);
  std::span<std::byte> make_room(Unit& unit);
  Unit* eviction_candidate();
  void evict(Unit& unit);
  void bring_in(Unit& unit, std::span<std::byte> region);

  Options options_;
  std::vector<std::shared_ptr<Unit>>& units_;
  tiering::RegionAllocator* regions_;
  WeightStream* stream_;
  Counters& counters_;
  OrderTrace trace_;
  bool last_micro_batch_ = true;
  std::uint64_t tick_ = 0;
};

}  // namespace strata::zero3
