#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "strata/base/counters.h"
#include "strata/base/number_format.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/shard_states.h"
#include "strata/tiering/home_transfer.h"
#include "strata/tiering/host_arena.h"

namespace strata::optim_cpu {

/// Takes new weights as they come about. Thread: the one that the pipeline works on.
class WeightSink {
 public:
  /// The weights of elements [begin, ...) of a shard, in its format, valid during the call. A
  /// window in which nothing is updated does not come.
  virtual void take(const ShardStates& shard, std::uint64_t begin,
                    std::span<const std::byte> weights) = 0;

 protected:
  ~WeightSink() = default;  // lent, never owned through this interface
};

/// Hop 7: windows of (weight, master, m, v, gradient) flow through a fixed set of buffers; while
/// all threads update one, the next are being fetched and the last are being flushed. States that
/// rest in memory of the host are updated in place.
///
/// A step goes on beside other work, in the hands of its caller:
///
///     pipeline.begin(groups);
///     ... pipeline.offer(shard) ...     // each one as soon as its gradient is there
///     ... pipeline.pump() ...           // now and then: what can be done without waiting
///     ... pipeline.advance() ...        // or, on a thread of its own: the next thing
///     while (!pipeline.finish()) ...    // the rest; "not now" is an answer
///
/// The order of these calls changes no bit of the result. UsageError from `begin` and `offer`
/// changes nothing. Any other error that a call throws fails the step: all transfers are let go,
/// the states are partly updated, and only the shards that `completed` counts are as they should
/// be. The pipeline itself can begin another step then.
///
/// All memory is taken when the pipeline is made; a step allocates nothing. Thread: one at a time.
class WindowPipeline {
 public:
  struct Options {
    /// Formats of all shards, at least one; a window's buffers hold any of them. They have the same
    /// moments, as one optimizer keeps them.
    std::vector<StateFormat> formats;
    /// A multiple of the store's chunk bytes / smallest_state_bytes(format), for every format.
    std::uint64_t window_elements = 1u << 20;
    std::size_t windows = 3;         ///< buffers in rotation: read next, update this, write last
    bool gradients_on_nvme = false;  ///< windows then have room for an fp32 gradient
    std::size_t shards_max = 16;     ///< offered and not complete at once; costs a few words each
    bool is_beside =
        false;  ///< others compute meanwhile: its waits hold nobody up, and do not count
  };

  /// Outcome of a call of `pump`.
  struct Progress {
    bool made = false;  ///< something was started, came to its end or was updated
    bool more = false;  ///< some offered shard is not complete
  };

  /// Arena bytes that a pipeline with these options takes, for plans.
  [[nodiscard]] static std::uint64_t arena_bytes(const Options& options,
                                                 std::uint64_t buffer_alignment = 4096);

  /// In `places` the store is null when no state rests on nvme, and the device when none rests in
  /// memory that host code cannot touch. When both are null no windows are allocated. They and
  /// `threads` must outlive the pipeline. Throws ConfigError for windows that do not lie on the
  /// store's chunks, for no windows or no room for a shard, for no format, and for formats with
  /// different moments.
  WindowPipeline(const Options& options, const tiering::HomePlaces& places,
                 tiering::HostArena& arena, ComputeThreads& threads, Counters& counters);
  /// Waits for the transfers of a step that was not finished.
  ~WindowPipeline();

  /// Begins a step. Segments are updated with `groups[segment.group]`, which is copied. All groups
  /// belong to one optimizer, the one whose moments the formats have. Throws UsageError for other
  /// groups and while a step is under way; DeadlineExceeded when a transfer that never came back
  /// holds windows: then no step can be made in this process.
  void begin(std::span<const UpdateGroup> groups);

  /// Hands over a shard, once in a step. False: not now, as `shards_max` are not complete; pump and
  /// offer again. A shard in which nothing is updated is always taken. Nothing is started yet.
  ///
  /// `shard` is lent until it is complete, or the step has ended; until then nobody else moves its
  /// states. If some are on a device, order its upload and drain streams behind all earlier uses of
  /// them. Windows in which nothing is updated are neither fetched nor flushed. Throws
  /// UsageError when no step is under way, and for a shard that breaks the rules of ShardStates,
  /// which is not taken.
  [[nodiscard]] bool offer(const ShardStates& shard);
  bool offer(ShardStates&& shard) = delete;

  /// Whether the pipeline may soon run out of work: less is left to begin than fills its buffers.
  /// Who offers only then keeps the disk busy, and stays free to change the order of the rest.
  [[nodiscard]] bool wants_shard() const noexcept;

  /// Does what can be done without waiting for the disk: ends the transfers that have arrived,
  /// updates at most one window, starts what the I/O queue has room for. If `made` is false and
  /// `more` true, the rest waits for the disk, or for transfers of others that fill the queue: call
  /// again later. (A window whose chunks lie in several directories is started whole, as `fetch`
  /// says.) Throws UsageError when no step is under way, and what Transfer::wait throws.
  Progress pump();

  /// Updates the next window, or where none is left or none has a buffer, makes a buffer free;
  /// waits for that, as `finish` does, which calls this until all is done. False: not now. With
  /// nothing left, does nothing.
  [[nodiscard]] bool advance();

  /// Does what is left, waits until all of it is back at rest, and ends the step. False: not now,
  /// as transfers of others fill the I/O queue and waiting does not help; the step goes on: wait
  /// for them and call again. Throws what `pump` throws.
  ///
  /// The time it stood still for the disk is added to the wait of kFetch (arrivals) and kFlush (a
  /// free buffer, the last writes); the arithmetic, in `pump` too, to the busy time of kStep.
  [[nodiscard]] bool finish();

  /// Number of complete shards in this step (or the last one). A complete shard is updated, and all
  /// its states are back at rest, so that others may read and move them. Shards complete in the
  /// order in which they were offered.
  [[nodiscard]] std::uint64_t completed() const noexcept;

  /// Gives the weights of every window to `sink` once they are updated. Call between steps; null,
  /// as at first: to nobody.
  void give_weights_to(WeightSink* sink) noexcept;

  /// All windows, for Submitter::register_memory; empty when there are none.
  [[nodiscard]] std::span<std::byte> memory() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::optim_cpu
