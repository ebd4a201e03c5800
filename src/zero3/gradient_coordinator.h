#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <span>

#include "strata/base/counters.h"
#include "strata/base/number_format.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/tiering/device.h"
#include "strata/tiering/device_copy.h"
#include "strata/tiering/shard_store.h"
#include "strata/tiering/slot_pool.h"
#include "zero3/device_exchange.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// Takes a unit's gradients from autograd to their home (hops 5 and 6), piece by piece: packed into
/// a bucket on the device, drained into a pinned slot, added to the home, their squares summed up
/// on the way. Where copies go on beside the host, a unit's pieces are drained and added when the
/// next unit's gradients come, which is when the device has begun to compute them: all that buckets
/// have room for leaves behind that computation (decision 0038).
///
/// With several ranks a bucket has a piece of every rank's shard. The ranks exchange their pieces,
/// and each adds up all pieces for its own shard (reduction.h). Where every rank keeps all
/// gradients (stage 0), it then gets the others' sums: the bits are the same. Ranks come here for
/// the same units in the same order; a parameter has a gradient if it had one on any of them.
///
/// Where the device's memory is host memory and there is one rank, there is no bucket: gradients
/// are added to their home straight from where autograd left them (add_straight.h), in one pass
/// that is a drain.
///
/// No gradient of a whole unit is ever copied: a bucket is a few MiB and stays in the cache.
/// Contributions are added in the order in which backward makes them: in fp32 when several
/// micro-batches are accumulated, else in the weight's format, as autograd itself adds. Sums of
/// several micro-batches come in fp32, and are added to a home in fp32. Thread: the engine's.
class GradientCoordinator {
 public:
  /// The places that gradients pass through. `store` is null when none rests on nvme.
  struct Places {
    tiering::Device& device;
    c10::Device torch_device;  ///< LibTorch's name for the same device
    /// Room for as many gradients of any vector's format (in fp32 where several micro-batches are
    /// accumulated), for each rank, as a slot holds in fp32; so many times. Empty where gradients
    /// go straight home.
    tiering::DeviceSpan buckets;
    std::size_t bucket_count;
    tiering::SlotPool& slots;
    tiering::ShardStore* store;
    DeviceExchange& exchange;
  };
  GradientCoordinator(const Places& places, optim_cpu::ComputeThreads& threads, Counters& counters);

  /// Adds `gradients` (see reduce.h; released as they are used) to the unit's gradient homes and
  /// leaves their sums of squares and finiteness in its vectors, and which parameters had one.
  /// Nothing happens when none is defined. Throws IoError, DeadlineExceeded,
  /// CorruptData when a home is on nvme; what Collective::wait throws.
  void accumulate(Unit& unit, torch::autograd::variable_list gradients);
  /// Does the same with sums in fp32, for units whose homes are in fp32. None at all counts as one
  /// undefined for each parameter.
  void accumulate_sums(Unit& unit, torch::autograd::variable_list sums);

  /// Number of units whose gradients it has begun to add so far.
  [[nodiscard]] std::uint64_t contributions() const noexcept { return contributions_; }

  /// Whether a unit's gradients are on their way still when those of the next one come.
  [[nodiscard]] bool are_behind() const;
  /// Waits until the gradients of one unit are at home.
  void bring_home(const Unit& unit);
  /// Waits until every gradient is at home.
  void settle();

 private:
  /// A part of a vector's home on its way to the disk.
  struct Writing {
    const FlatVector* vector;
    tiering::StagingSlot slot;
    tiering::Transfer transfer;
  };

  /// Some elements of a vector's gradient, packed on the device or on their way from it.
  struct Piece {
    FlatVector* vector;
    Precision precision;  // of the gradients
    bool is_first;        // the home holds nothing of this step yet
    std::uint64_t begin, count;
    tiering::DeviceSpan bucket;
    tiering::Event packed;
    std::optional<tiering::StagingSlot> slot{};
    std::optional<tiering::DeviceCopy> drained{};
  };

  /// Tells which of the parameters have a gradient, on this rank or another.
  [[nodiscard]] std::vector<bool> with_gradients(
      const torch::autograd::variable_list& gradients) const;
  void accumulate(Unit& unit, torch::autograd::variable_list gradients, bool are_sums);
  void accumulate(const Unit& unit, FlatVector& vector, torch::autograd::variable_list& gradients,
                  Precision precision);
  void accumulate_straight(const Unit& unit, FlatVector& vector,
                           torch::autograd::variable_list& gradients, Precision precision);
  void exchange(FlatVector& vector, Precision precision, bool is_first, std::uint64_t begin,
                std::uint64_t count, tiering::DeviceSpan bucket);
  /// Brings the sums of all ranks, elements [begin, begin + count) of each one's shard, to a home
  /// that has all of them.
  void share_sums(const FlatVector& vector, std::uint64_t begin, std::uint64_t count);
  void finish(const FlatVector& vector);
  [[nodiscard]] tiering::DeviceSpan next_bucket();
  void drain_what_can();
  void drain(Piece& piece, tiering::StagingSlot slot);
  void add_oldest_piece();
  /// Calls add(the home's bytes for these elements of the shard); brings them and takes them back.
  template <class Add>
  void at_home(const FlatVector& vector, bool is_first, std::uint64_t begin, std::uint64_t count,
               const Add& add);
  [[nodiscard]] tiering::StagingSlot acquire_slot();
  void wait_for_oldest_write();

  Places places_;
  std::size_t leaving_max_;  // pieces
  optim_cpu::ComputeThreads& threads_;
  Counters& counters_;
  std::uint64_t contributions_ = 0;
  std::size_t bucket_ = 0;    // the next one
  std::deque<Piece> pieces_;  // oldest first, each in a bucket of its own
  std::deque<Writing> writing_;
};

}  // namespace strata::zero3
