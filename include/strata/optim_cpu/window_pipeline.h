#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "strata/base/counters.h"
#include "strata/base/number_format.h"
#include "strata/optim_cpu/adam.h"
#include "strata/tiering/host_arena.h"
#include "strata/tiering/shard_store.h"

namespace strata::optim_cpu {

/// Where one state of one shard rests: in memory (host tier, or device tier on a machine without a
/// GPU), or in an extent of the shard store. Exactly one is set, or none where the format has no
/// such state.
struct StateHome {
  std::span<std::byte> memory;
  std::optional<tiering::Extent> extent;
};

/// A run of consecutive elements of a shard that share hyperparameters.
struct Segment {
  std::uint64_t begin = 0, end = 0;  ///< elements
  std::uint32_t group = 0;           ///< index into the groups given to `run`
};

/// One trainable shard as the optimizer sees it: numbers and where they rest, nothing of modules or
/// ranks.
struct ShardStates {
  std::uint64_t count = 0;  ///< elements, padding included
  bool gradient_fp32 =
      false;  ///< the gradient home is fp32 (accumulated), else the weight's format
  StateHome weight, master, m, v, gradient;
  std::vector<Segment> segments;  ///< in order, covering [0, count)
};

/// Hop 7 over everything: windows of (weight, master, m, v, gradient) flow through a fixed set of
/// buffers; while one is updated by all threads, the next are being fetched and the last are being
/// flushed. States that rest in memory are updated in place.
///
/// All memory is taken from the arena when the pipeline is made; `run` allocates nothing of size.
/// Thread: the engine's.
class WindowPipeline {
 public:
  struct Options {
    Precision precision = Precision::kFp32;
    std::uint64_t window_elements = 1u << 20;  ///< a multiple of store chunk bytes / 2
    std::size_t windows = 3;         ///< buffers in rotation: read next, update this, write last
    bool gradients_on_nvme = false;  ///< windows then have room for an fp32 gradient
    int threads = 0;                 ///< of the oneTBB arena; 0: all cores
  };

  /// Arena bytes that a pipeline with these options takes, for plans.
  [[nodiscard]] static std::uint64_t arena_bytes(const Options& options,
                                                 std::uint64_t buffer_alignment = 4096);

  /// `store` may be null when every state of every shard rests in memory (then no windows are
  /// allocated).
  WindowPipeline(const Options& options, tiering::ShardStore* store, tiering::HostArena& arena,
                 Counters& counters);
  ~WindowPipeline();

  /// Updates every shard once and waits until all of it is back at rest. `groups[segment.group]`
  /// are the hyperparameters; `step` and `gradient_scale` as in adam_update. The time it stood
  /// still for the disk is added to the wait of kFetch (arrivals) and kFlush (a free buffer, the
  /// last writes); the arithmetic to the busy time of kStep. Throws what Transfer::wait throws; the
  /// states are then partly updated and the run cannot go on.
  void run(std::span<const ShardStates> shards, std::span<const AdamOptions> groups,
           std::int64_t step, float gradient_scale);

  /// All windows, for IoQueue::prepare; empty when there are none.
  [[nodiscard]] std::span<std::byte> memory() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::optim_cpu
