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
#include "strata/tiering/host_arena.h"
#include "strata/tiering/shard_store.h"

namespace strata::optim_cpu {

/// Hop 7 over everything: windows of (weight, master, m, v, gradient) flow through a fixed set of
/// buffers; while one is updated by all threads, the next are being fetched and the last are being
/// flushed. States that rest in memory are updated in place.
///
/// All memory is taken from the arena when the pipeline is made; `run` allocates nothing of size.
/// Thread: the engine's.
class WindowPipeline {
 public:
  struct Options {
    /// Of all shards, at least one; the buffers of a window hold any of them. They have the same
    /// moments, as one optimizer keeps them.
    std::vector<StateFormat> formats;
    /// A multiple of the store's chunk bytes / smallest_state_bytes(format), for every format.
    std::uint64_t window_elements = 1u << 20;
    std::size_t windows = 3;         ///< buffers in rotation: read next, update this, write last
    bool gradients_on_nvme = false;  ///< windows then have room for an fp32 gradient
  };

  /// Arena bytes that a pipeline with these options takes, for plans.
  [[nodiscard]] static std::uint64_t arena_bytes(const Options& options,
                                                 std::uint64_t buffer_alignment = 4096);

  /// `store` may be null when every state of every shard rests in memory (then no windows are
  /// allocated). `threads` must outlive the pipeline. Throws ConfigError for windows that do not
  /// lie on the store's chunks, for no format, and for formats with different moments.
  WindowPipeline(const Options& options, tiering::ShardStore* store, tiering::HostArena& arena,
                 ComputeThreads& threads, Counters& counters);
  ~WindowPipeline();

  /// Updates every shard once and waits until all of it is back at rest. A segment is updated with
  /// `groups[segment.group]`, or left as it is (kNotUpdated); windows in which nothing is updated
  /// are neither fetched nor flushed. All groups are of one optimizer, the one whose moments the
  /// formats have. The time it stood still for the disk is added to the wait of kFetch (arrivals)
  /// and kFlush (a free buffer, the last writes); the arithmetic to the busy time of kStep. Throws
  /// UsageError, before anything is changed, for shards and groups that break these rules. Throws
  /// what Transfer::wait throws; the states are then partly updated and the run cannot go on.
  void run(std::span<const ShardStates> shards, std::span<const UpdateGroup> groups);

  /// All windows, for Submitter::prepare; empty when there are none.
  [[nodiscard]] std::span<std::byte> memory() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::optim_cpu
