#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "strata/base/counters.h"
#include "strata/optim_cpu/window_pipeline.h"
#include "strata/tiering/shard_store.h"
#include "zero3/entry.h"

namespace strata::zero3 {

/// The states of one vector of a unit, to be updated.
struct UnitUpdate {
  UnitId unit;
  const optim_cpu::ShardStates* states;
};

/// Makes the optimizer's steps (hop 7) on a thread of its own, so that the engine's may go on: into
/// the next forward, say, which uses a unit as soon as that unit's own update is complete.
///
/// Units are updated in the order in which they are given. Until its update is complete, nobody
/// else moves or changes a unit's states. New weights that are wanted next are copied from the
/// windows that have them, and need not be read back. Thread: the engine's, for all members.
class StepThread final : private optim_cpu::WeightSink {
 public:
  /// `store` is the pipeline's, null where it has none. Copied weights count in `counters` as hop
  /// upload. The time that the engine's thread stands still for updates is added to `waits`; null
  /// where the pipeline counts its own waits. All of them outlive this object.
  StepThread(optim_cpu::WindowPipeline& pipeline, tiering::ShardStore* store, std::size_t units,
             Counters& counters, Counters* waits);
  /// Gives up what is not updated yet, and waits for the transfers under way.
  ~StepThread();
  StepThread(const StepThread&) = delete;
  StepThread& operator=(const StepThread&) = delete;

  /// Begins a step; the one before was waited for (`wait`). What `updates` points to is lent until
  /// it is complete. Throws what WindowPipeline's begin and offer throw: then nothing has begun.
  void begin(std::span<const optim_cpu::UpdateGroup> groups, std::span<const UnitUpdate> updates);

  /// Whether the unit has an update that is not complete. Never waits.
  [[nodiscard]] bool is_pending(UnitId unit) const noexcept;
  /// Waits until the unit has none. Throws what WindowPipeline::finish throws, when the step failed
  /// before that; every later call that would wait throws the same.
  void wait_for(UnitId unit);
  /// Waits until no unit has one.
  void wait();

  /// Has the new weights of the unit's updates copied to `targets`, one for each, in the order in
  /// which they were given; each has the bytes of that vector's weights, and is lent until the
  /// update is complete or `withdraw`. False, with nothing lent: the unit has no such updates
  /// pending, or they have begun, or leave out a part of the weights: fetch them when the unit is
  /// not pending any more.
  [[nodiscard]] bool deliver(UnitId unit, std::span<const std::span<std::byte>> targets);
  /// Takes the targets back. What they hold is undefined, unless the update is complete.
  void withdraw(UnitId unit);

 private:
  /// An update of the step, and where its weights are wanted.
  struct Update {
    UnitId unit;
    const optim_cpu::ShardStates* states;
    bool is_partial;         // windows may be left out
    bool has_begun = false;  // some of its weights have come by
    std::span<std::byte> target{};
  };

  void take(const optim_cpu::ShardStates& shard, std::uint64_t begin,
            std::span<const std::byte> weights) override;
  [[nodiscard]] std::span<Update> updates_of(UnitId unit);
  void wait_for_count(std::uint64_t count);
  void run();
  void make_step();

  optim_cpu::WindowPipeline& pipeline_;  // the engine's thread's while no step is under way
  tiering::ShardStore* store_;
  Counters& counters_;
  Counters* waits_;
  std::vector<std::uint64_t>
      due_;  // the count of complete updates with which each unit is complete
  std::uint64_t all_due_ = 0;
  std::atomic<std::uint64_t> completed_ = 0;  // of the step's updates

  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_stepping_ = false;
  bool is_ending_ = false;
  std::vector<Update> updates_;  // the step's, a unit's side by side
  std::size_t current_ = 0;      // the one whose windows come by
  std::exception_ptr failure_;
  std::thread thread_;  // the last member: it uses the others
};

}  // namespace strata::zero3
