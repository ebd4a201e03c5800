#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "strata/base/counters.h"
#include "strata/base/number_format.h"
#include "strata/optim_cpu/window_pipeline.h"
#include "strata/tiering/movement.h"

namespace strata::optim_cpu {

/// Per state kind.
template <class T>
using PerState = std::array<T, kStateKindCount>;

[[nodiscard]] constexpr std::size_t index_of(StateKind kind) {
  return static_cast<std::size_t>(kind);
}

[[nodiscard]] const StateHome& home_of(const ShardStates& shard, StateKind kind);

/// Consecutive elements of one shard.
struct WindowRange {
  const ShardStates* shard = nullptr;
  std::uint64_t begin = 0, end = 0;
};

/// The segment that `element` of the shard lies in.
[[nodiscard]] std::vector<Segment>::const_iterator segment_at(const ShardStates& shard,
                                                              std::uint64_t element);

/// Whether any element of the range is updated.
[[nodiscard]] bool has_updates(const WindowRange& range);

/// A window's place in the rotation: buffers for the states that rest on nvme, and the transfers
/// that fill and empty them.
///
/// Goes round: `begin`, fetch until nothing is pending, update through `data`, `begin_flush`, flush
/// until nothing is pending. "Pending" is a transfer that has not been started, or has been and was
/// not waited for. Thread: the engine's.
class Window {
 public:
  /// `buffers` are empty for states that are never fetched.
  explicit Window(const PerState<std::span<std::byte>>& buffers) : buffers_(buffers) {}

  /// Turns to `range`: all of its states on nvme are to be fetched.
  void begin(const WindowRange& range);
  /// All of its states on nvme but the gradient are to be flushed.
  void begin_flush();

  /// Starts what is to be transferred until the store says "not now". True when all has started.
  [[nodiscard]] bool start_transfers(tiering::ShardStore* store);
  [[nodiscard]] bool all_started() const { return next_ == kStateKindCount; }
  /// True when nothing is pending, or only waits that would not block.
  [[nodiscard]] bool all_done() const;
  [[nodiscard]] bool has_transfers() const;
  /// Waits for the transfer that was started first. The time it stood still is added to `counters`.
  void wait_for_oldest(Counters& counters);
  /// Drops all transfers, waiting for those under way.
  void abandon();

  [[nodiscard]] const WindowRange& range() const { return range_; }
  /// The first element of a state of the range: in its buffer, or in the memory where it rests.
  [[nodiscard]] std::byte* data(StateKind kind) const { return data_[index_of(kind)]; }

 private:
  [[nodiscard]] bool on_nvme(StateKind kind) const;
  [[nodiscard]] std::uint64_t element_bytes(StateKind kind) const;
  [[nodiscard]] std::optional<tiering::Transfer> start(tiering::ShardStore& store, StateKind kind);

  PerState<std::span<std::byte>> buffers_;
  WindowRange range_;
  PerState<std::byte*> data_{};
  PerState<std::optional<tiering::Transfer>> transfers_;
  std::size_t next_ = kStateKindCount;  // the state whose transfer is started next
  Hop hop_ = Hop::kFetch;
};

}  // namespace strata::optim_cpu
