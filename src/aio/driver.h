#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aio/blocks.h"
#include "aio/guarded_call.h"
#include "aio/operation_state.h"
#include "aio/transfer_failure.h"
#include "strata/aio/backend.h"
#include "strata/aio/io_queue.h"
#include "strata/aio/lost_memory.h"
#include "strata/base/clock.h"
#include "strata/base/log.h"

namespace strata::aio {

/// The reason why a queue carries nothing more.
struct Breakdown {
  TransferFailure::Kind kind;
  int code;
  std::string message;
};

/// Throws the error with which a broken queue refuses new operations.
void throw_if_broken(const std::optional<Breakdown>& breakdown);

/// Turns operations into requests of a backend and completions back into outcomes: splitting, short
/// transfers, retries, deadlines, statistics. Knows nothing of threads: one caller runs it turn by
/// turn. Takes its memory when it is made.
class Driver {
 public:
  /// Clamps `options.depth` to what the backend can carry. The other three outlive the driver;
  /// `lost` is told of the buffers of transfers that never came back.
  Driver(const IoQueueOptions& options, Backend& backend, LostMemory& lost, Logger& log);

  /// Takes over an operation; it comes back through `take_finished` within the deadline.
  void add(detail::OperationState& state);

  /// Issues what fits, waits for the backend (until a completion, a wake, something is due or
  /// `wait_max` is over) and works off what came back. Returns at once while finished operations
  /// are to be taken. Throws nothing: an exception of the backend breaks the driver down, and the
  /// requests in the backend still come home, unless `reap` threw. False when `call` was taken over
  /// meanwhile: then the driver is the watcher's, and no more turns are made.
  bool turn(std::chrono::nanoseconds wait_max = std::chrono::nanoseconds::max()) noexcept;

  /// The calls of an engine whose `enqueue` may wait. A watcher that takes one over goes on with
  /// `give_up_all`, in place of the thread that is held up in it.
  [[nodiscard]] GuardedCall& call() { return call_; }
  void give_up_all();

  /// Moves the states of finished operations to the end of `finished`, their `failure` set or not.
  void take_finished(std::vector<detail::OperationState*>& finished);

  /// Whether there is something for `take_finished`.
  [[nodiscard]] bool has_finished() const { return !finished_.empty(); }
  /// Whether no operation is unfinished.
  [[nodiscard]] bool idle() const { return unfinished_ == 0; }
  /// Whether all blocks are in use and operations wait for one: new ones could not start now.
  [[nodiscard]] bool saturated() const { return !waiting_.empty(); }
  /// Requests that the backend never gave back.
  [[nodiscard]] bool has_lost_requests() const {
    return (!blocks_.empty(BlockState::kLost) || call_.is_taken()) && idle();
  }
  [[nodiscard]] const std::optional<Breakdown>& breakdown() const { return breakdown_; }
  [[nodiscard]] IoStatistics statistics() const;

 private:
  // Issuing.
  void stage_new_blocks();
  void stage_retries(Time now);
  [[nodiscard]] bool enqueue_staged(Time now);
  [[nodiscard]] std::size_t hand_over(bool& is_taken);
  [[nodiscard]] Time first_deadline() const;
  [[nodiscard]] std::chrono::nanoseconds time_until_due(Time now) const;

  // Completions.
  void complete(const Completion& completion, Time now);
  void advance(BlockIndex index, std::uint64_t moved, Time now);
  void retry(BlockIndex index, TransferFailure::Kind kind, int code, Time now);
  void release(BlockIndex index);
  void finish_if_home(detail::OperationState& state);

  // Failing (driver_failing.cpp): first one operation, then all that follow.
  void fail_block(BlockIndex index, TransferFailure::Kind kind, int code);
  [[nodiscard]] bool ends_early(BlockIndex index);
  void fail(detail::OperationState& state, const TransferFailure& failure);
  void check_deadlines(Time now);
  void give_up(BlockIndex index);
  void abandon(detail::OperationState& state);
  void close(TransferFailure::Kind kind, int code, const std::string& message);
  void refuse_unissued();
  void refuse_waiting();
  void break_down(int code, const std::string& message);
  void lose_backend(int code, const std::string& message);

  const IoQueueOptions options_;
  const Clock& clock_;
  Backend& backend_;
  LostMemory& lost_;
  Logger& log_;

  Blocks blocks_;
  std::vector<Request> requests_;  // the staged blocks as the backend takes them
  std::vector<Completion> completions_;
  GuardedCall call_;

  detail::OperationList waiting_;  // operations with bytes not yet staged; only the first has begun
  std::vector<detail::OperationState*> finished_;
  std::uint32_t unfinished_ = 0;
  Time busy_since_;  // where something is unfinished
  Time next_check_;  // no deadline passes before this
  IoStatistics statistics_;
  std::optional<Breakdown> breakdown_;
};

}  // namespace strata::aio
