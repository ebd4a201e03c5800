#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "optim_cpu/kernel_table.h"
#include "strata/base/counters.h"
#include "strata/base/number_format.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/shard_states.h"
#include "strata/tiering/home_transfer.h"

namespace strata::optim_cpu {

/// One value per state kind.
template <class T>
using PerState = std::array<T, kStateKindCount>;

/// Consecutive elements of one shard.
struct WindowRange {
  const ShardStates* shard = nullptr;
  std::uint64_t begin = 0, end = 0;
};

/// Whether any element of the range is updated.
[[nodiscard]] bool has_updates(const WindowRange& range);

/// The values of one optimizer step that all parameters share.
struct StepContext {
  std::span<const RuleConstants> groups;
  const KernelTable& kernels;
};

/// A window's place in the rotation: buffers for the states that rest elsewhere (on nvme, or on a
/// device whose memory host code cannot touch), and the transfers that fill and empty them.
///
/// Goes round: `begin`, fetch until it is settled, `update`, `begin_flush`, flush until it is
/// settled. Thread: the engine's.
class Window {
 public:
  /// `buffers` are empty for states that are never fetched.
  explicit Window(const PerState<std::span<std::byte>>& buffers) : buffers_(buffers) {}

  /// Turns to `range`: all of its states that rest elsewhere are to be fetched.
  void begin(const WindowRange& range);
  /// Updates the elements, whose states are all in memory (hop 7, step), on all of `threads`. Each
  /// element (each block of int8 moments) is updated by itself, so how the window is split does not
  /// show.
  void update(const StepContext& context, ComputeThreads& threads) const;
  /// The shard that it is at, and the first of its elements there.
  [[nodiscard]] const ShardStates& shard() const { return *range_.shard; }
  [[nodiscard]] std::uint64_t begin_element() const { return range_.begin; }
  /// Their weights, in memory until the window is begun anew.
  [[nodiscard]] std::span<const std::byte> weights() const;
  /// Turns to flushing all of its states that rest elsewhere, but the gradient.
  void begin_flush();

  /// Starts transfers until the store says "not now". True when all have started.
  [[nodiscard]] bool start_transfers(const tiering::HomePlaces& places);
  /// Ends the transfers that are done, without waiting. Throws what Transfer::wait throws.
  void end_what_arrived();
  /// Whether nothing is left to start, and all started transfers have been waited for.
  [[nodiscard]] bool is_settled() const { return next_ == kStateKindCount && !has_transfers(); }
  [[nodiscard]] bool has_transfers() const;
  /// Waits for the transfer that was started first. The time it stood still is added to `waits`,
  /// unless that is null.
  void wait_for_oldest(Counters* waits);
  /// Drops all transfers, waiting for those under way.
  void abandon();
  /// The name of its shard, the bytes of its states, and those of them that were fetched: for
  /// spans.
  [[nodiscard]] std::string_view name() const { return range_.shard->name; }
  [[nodiscard]] std::uint64_t bytes() const;
  void note_reads(ScopedTimer& timer) const;
  /// Transfers started and ended since the window was made.
  [[nodiscard]] std::uint64_t moves() const { return moves_; }

 private:
  [[nodiscard]] bool is_elsewhere(StateKind kind) const;
  [[nodiscard]] std::uint64_t element_bytes(StateKind kind) const;
  [[nodiscard]] std::optional<tiering::HomeTransfer> start(const tiering::HomePlaces& places,
                                                           StateKind kind);
  void end(std::optional<tiering::HomeTransfer>& transfer);
  [[nodiscard]] UpdateSpan span() const;

  PerState<std::span<std::byte>> buffers_;
  WindowRange range_;
  PerState<std::byte*> data_{};  // first elements: in the buffer, or in the memory where they rest
  PerState<std::optional<tiering::HomeTransfer>> transfers_;
  std::size_t next_ = kStateKindCount;  // the state whose transfer is started next
  Hop hop_ = Hop::kFetch;
  std::uint64_t moves_ = 0;
};

/// Bytes of the buffers of one window of `elements`, by state, so that shards of any of the formats
/// fit; 0 for a state that is never fetched.
[[nodiscard]] PerState<std::uint64_t> window_buffer_bytes(std::span<const StateFormat> formats,
                                                          std::uint64_t elements,
                                                          bool gradients_on_nvme,
                                                          std::uint64_t alignment);

/// Makes that many windows, one after the other in `memory`, each with buffers of `bytes`.
[[nodiscard]] std::vector<Window> make_windows(std::size_t count,
                                               const PerState<std::uint64_t>& bytes,
                                               std::span<std::byte> memory);

}  // namespace strata::optim_cpu
