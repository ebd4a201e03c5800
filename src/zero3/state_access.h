#pragma once

#include <torch/torch.h>

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

#include "strata/tiering/shard_store.h"
#include "strata/tiering/slot_pool.h"
#include "zero3/home_bytes.h"
#include "zero3/ranks/ranks.h"
#include "zero3/state_stream.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// Reads and writes what units have at rest, between the hops of training, parameter by parameter:
/// whole ones, of which each rank keeps a part. All ranks make the same calls, and edit alike.
///
/// States that rest elsewhere (on nvme, or on a device whose memory host code cannot touch) pass
/// through the staging slots of training, which must be free: nothing is being prefetched, no
/// gradient is on its way. Throws UsageError when they are not (one visitor inside another);
/// IoError, DeadlineExceeded, CorruptData from the disk, DeviceError from the device. Thread: the
/// engine's.
class StateAccess {
 public:
  /// A parameter's index in its unit's layout, and fp32 values of its shape.
  using Visit = std::function<void(std::size_t parameter, torch::Tensor& values)>;

  /// Either pool may be null, where nothing rests elsewhere that would pass through it.
  StateAccess(const StatePassage& passage, Ranks& ranks, tiering::SlotPool* fetch_slots,
              tiering::SlotPool* gradient_slots)
      : passage_(passage), ranks_(ranks), pools_{fetch_slots, gradient_slots} {}

  /// Whether a visitor or editor is at work.
  [[nodiscard]] bool is_in_use() const noexcept { return in_use_; }

  /// Shows every master, in the layout's order. One is in memory at a time.
  void read_masters(Unit& unit, const Visit& visit);

  /// Lets `edit` change the masters of the parameters of these indices, in their order, and writes
  /// the results. When it throws, earlier ones are written and the one in question is as it was.
  void edit_masters(Unit& unit, const std::vector<std::size_t>& parameters, const Visit& edit);

  /// The values of a parameter's compute weights at rest.
  [[nodiscard]] torch::Tensor weights(Unit& unit, std::size_t parameter);

  /// Show, or give new, all bytes of a state of this rank's shard as they rest. Throw what
  /// read_home and write_home throw.
  void read_bytes(const tiering::StateHome& home, std::uint64_t bytes, const BytesVisit& visit);
  void write_bytes(const tiering::StateHome& home, std::uint64_t bytes, const BytesFill& fill);

  /// Shows the gradients of the parameters that have one, as they are at their home.
  void read_gradients(Unit& unit, const Visit& visit);

 private:
  struct Lease;
  class Buffers;
  class Streams;
  /// Takes staging buffers; nullopt when the slots do not suffice.
  [[nodiscard]] std::optional<Lease> lease(const StateFormat& format,
                                           const tiering::StateHome& weight,
                                           const tiering::StateHome& master);

  void order_behind_computation() const;
  [[nodiscard]] Buffers buffers_for(const tiering::StateHome& home) const;

  StatePassage passage_;
  Ranks& ranks_;
  std::array<tiering::SlotPool*, 2> pools_;
  bool in_use_ = false;  ///< a visitor is at work
};

}  // namespace strata::zero3
