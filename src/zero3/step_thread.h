#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
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

/// Makes the optimizer's steps (hop 7) on a thread of its own, so that the engine's may go on: with
/// backward, whose units are submitted as their gradients come, or into the next forward, which
/// uses a unit as soon as that unit's own update is complete:
///
///     thread.begin(groups);
///     ... thread.submit(updates of a unit) ...
///     thread.close();
///     ... thread.wait_for(unit) ...
///
/// Of the units that wait, the one that was submitted last is updated first, until `close`: what
/// has not begun by then is updated in the order of units, in which forward uses them. Until its
/// update is complete, nobody else moves or changes a unit's states. New weights that are wanted
/// next are copied from the windows that have them, and need not be read back. Thread: the
/// engine's, for all members.
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

  /// Begins a step; the one before was waited for (`wait`). Throws what WindowPipeline::begin
  /// throws: then nothing has begun.
  void begin(std::span<const optim_cpu::UpdateGroup> groups);
  /// Has one unit updated, once in a step: one element for each of its vectors that trains. What
  /// they point to is lent until it is complete. What WindowPipeline::offer throws fails the step.
  void submit(std::span<const UnitUpdate> updates);
  /// Tells that the step has no more units.
  void close();
  /// Ends a step that cannot be completed: `why` is its failure.
  void fail(std::exception_ptr why);
  /// Whether a step was begun and not closed.
  [[nodiscard]] bool is_open() const noexcept { return !is_closed_; }

  /// Whether the unit has an update that is not complete. Never waits.
  [[nodiscard]] bool is_pending(UnitId unit) const noexcept;
  /// Waits until the unit has none. Throws what WindowPipeline::finish throws, when the step failed
  /// before that; every later call that would wait throws the same.
  void wait_for(UnitId unit);
  /// Waits until no unit has one, and a closed step is over.
  void wait();

  /// Has the new weights of the unit's updates copied to `targets`, one for each, in the order in
  /// which they were submitted; each has the bytes of that vector's weights, and is lent until the
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

  /// A unit's part of `updates_`.
  struct UnitSubmission {
    std::size_t first = 0, count = 0;
  };

  void take(const optim_cpu::ShardStates& shard, std::uint64_t begin,
            std::span<const std::byte> weights) override;
  [[nodiscard]] std::span<Update> updates_of(UnitId unit);
  template <class IsOver>
  void wait_until(const IsOver& is_over);
  void run();
  void make_step();
  /// Waits for something to do, and hands the pipeline what it needs to go on; the order of the
  /// others may still change. False: there is nothing any more.
  [[nodiscard]] bool offer_some();
  void note_completed();

  optim_cpu::WindowPipeline& pipeline_;  // of the thread of steps while one is under way
  tiering::ShardStore* store_;
  Counters& counters_;
  Counters* waits_;
  std::vector<std::atomic<std::uint32_t>> pending_;  // updates of each unit that are not complete

  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_stepping_ = false;
  bool is_closed_ = true;  // written by the engine's thread alone, which reads it without the lock
  bool is_ending_ = false;
  std::vector<Update> updates_;  // of the step, a unit's side by side
  std::vector<UnitSubmission> submitted_;
  std::deque<std::size_t> waiting_;  // those that the pipeline does not have yet, in order
  std::vector<std::size_t> offered_;
  std::size_t completed_ = 0;  // of those offered
  std::size_t current_ = 0;    // the offered one whose windows come by
  std::exception_ptr failure_;
  std::thread thread_;  // the last member: it uses the others
};

}  // namespace strata::zero3
