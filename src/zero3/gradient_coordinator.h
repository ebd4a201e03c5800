#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <deque>
#include <span>

#include "strata/base/counters.h"
#include "strata/base/number_format.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/tiering/pinned_slots.h"
#include "strata/tiering/shard_store.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// Takes a unit's gradients from autograd to their home (hops 5 and 6), bucket by bucket: packed on
/// the device, drained into a pinned slot, added to what the home holds, summed up on the way.
///
/// No gradient of a whole unit is ever copied: a bucket is a few MiB and stays in the cache.
/// Contributions are added in the order in which backward makes them: in fp32 when several
/// micro-batches are accumulated, else in the weight's format, as autograd itself adds. Thread: the
/// engine's.
class GradientCoordinator {
 public:
  /// `bucket`: device memory for as many gradients of any vector's format as a slot holds in fp32.
  /// `store` is null when no gradient rests on nvme.
  GradientCoordinator(std::span<std::byte> bucket, tiering::PinnedSlots& slots,
                      tiering::ShardStore* store, optim_cpu::ComputeThreads& threads,
                      Counters& counters)
      : bucket_(bucket), slots_(slots), store_(store), threads_(threads), counters_(counters) {}

  /// Adds `gradients` (see reduce.h; released as they are used) to the unit's gradient homes and
  /// leaves their sums of squares and finiteness in its vectors, and which parameters had one.
  /// Nothing happens when none is defined. Throws IoError, DeadlineExceeded,
  /// CorruptData when a home is on nvme.
  void accumulate(Unit& unit, torch::autograd::variable_list gradients);

  /// Waits until every gradient is at home.
  void settle();

 private:
  struct Writing {
    tiering::PinnedSlot slot;
    tiering::Transfer transfer;
  };

  void accumulate(const Unit& unit, FlatVector& vector, torch::autograd::variable_list& gradients);
  /// `is_first`: the home holds nothing of this step yet.
  void add_piece(FlatVector& vector, bool is_first, std::uint64_t begin, std::uint64_t count,
                 std::span<std::byte> piece);
  void add_piece_on_nvme(FlatVector& vector, bool is_first, std::uint64_t begin,
                         std::uint64_t count, std::span<std::byte> piece);
  void add(FlatVector& vector, bool is_first, std::uint64_t count, std::span<std::byte> piece,
           std::byte* home);
  tiering::PinnedSlot acquire_slot();
  void wait_for_oldest();

  std::span<std::byte> bucket_;
  tiering::PinnedSlots& slots_;
  tiering::ShardStore* store_;
  optim_cpu::ComputeThreads& threads_;
  Counters& counters_;
  std::deque<Writing> writing_;
};

}  // namespace strata::zero3
