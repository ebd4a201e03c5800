#include <algorithm>
#include <cerrno>
#include <exception>
#include <string>

#include "aio/driver.h"
#include "strata/base/error.h"

// How a driver's operations fail: one of them for a reason of its own, or all of them with the
// backend. An operation has failed at the first reason; it ends when its blocks are home.

namespace strata::aio {

using detail::OperationState;
using std::chrono::milliseconds;

namespace {

TransferFailure failure_of(const Block& block, TransferFailure::Kind kind, int code) {
  return {.kind = kind, .code = code, .offset = block.offset, .bytes = block.bytes};
}

}  // namespace

void throw_if_broken(const std::optional<Breakdown>& breakdown) {
  if (!breakdown) return;
  std::rethrow_exception(make_error(breakdown->kind, breakdown->code,
                                    "this queue accepts nothing more: " + breakdown->message));
}

// ---- one operation ----------------------------------------------------------------------------

/// Sets the reason, and issues nothing more for the operation.
void Driver::fail(OperationState& state, const TransferFailure& failure) {
  state.failure = failure;
  if (state.bytes_issued == state.operation.buffer.size()) return;
  STRATA_CHECK(waiting_.front() == &state, "only the first that waits has begun");
  waiting_.pop_front();
  state.bytes_issued = state.operation.buffer.size();
}

void Driver::fail_block(BlockIndex index, TransferFailure::Kind kind, int code) {
  OperationState& state = *blocks_[index].owner;
  if (!state.failed()) fail(state, failure_of(blocks_[index], kind, code));
  release(index);
}

/// Gives back a block that is not done when its operation has failed, or no more requests can be
/// made.
bool Driver::ends_early(BlockIndex index) {
  if (blocks_[index].owner->failed()) {
    release(index);
    return true;
  }
  if (!breakdown_) return false;
  fail_block(index, breakdown_->kind, breakdown_->code);
  return true;
}

// ---- deadlines --------------------------------------------------------------------------------

void Driver::check_deadlines(Time now) {
  next_check_ = now + std::min(options_.warn_after, options_.fail_after);
  blocks_.for_each_owned([&](BlockIndex index) {
    Block& block = blocks_[index];
    if (now >= block.started + options_.fail_after) return give_up(index);
    if (!block.warned && now >= block.started + options_.warn_after) {
      block.warned = true;
      const auto age = std::chrono::duration_cast<milliseconds>(now - block.started);
      log_.warning(describe_transfer(block.owner->operation, block.offset, block.bytes) +
                   ": no answer for " + std::to_string(age.count()) +
                   " ms; the device or its file system is slow or stuck (see dmesg)");
    }
    const auto patience = block.warned ? options_.fail_after : options_.warn_after;
    next_check_ = std::min<Time>(next_check_, block.started + patience);
  });
}

/// Fails the operation of a request that never came back, and with it the queue.
void Driver::give_up(BlockIndex index) {
  OperationState& state = *blocks_[index].owner;
  fail(state, failure_of(blocks_[index], TransferFailure::Kind::kDeadline, ETIMEDOUT));
  const std::string message = describe_failure(state.operation, state.failure);
  log_.error(message);
  abandon(state);
  close(TransferFailure::Kind::kDeadline, ETIMEDOUT, message);
}

/// Gives up all requests at once: the engine is held up in a call, so nobody knows what it does
/// with them.
void Driver::give_up_all() {
  blocks_.for_each_owned([&](BlockIndex index) {
    OperationState& state = *blocks_[index].owner;
    fail(state, failure_of(blocks_[index], TransferFailure::Kind::kDeadline, ETIMEDOUT));
    if (!breakdown_) {
      const std::string message = describe_failure(state.operation, state.failure);
      log_.error(message);
      breakdown_ = {.kind = state.failure.kind, .code = state.failure.code, .message = message};
    }
    abandon(state);
  });
  refuse_waiting();
}

/// Ends an operation without the requests that are still out.
void Driver::abandon(OperationState& state) {
  lost_.add(state.operation.buffer);
  blocks_.for_each_owned([&](BlockIndex index) {
    if (blocks_[index].owner != &state) return;
    const BlockState now = blocks_.state_of(index);
    const bool is_in_held_up_call = now == BlockState::kStaged && call_.is_taken();
    const bool is_out = meaning_of(now).is_in_backend || is_in_held_up_call;
    blocks_.move(index, is_out ? BlockState::kLost : BlockState::kFree);
  });
  state.blocks_out = 0;
  finish_if_home(state);
}

// ---- all that follow --------------------------------------------------------------------------

/// Lets nothing more begin: fails all requests that the kernel does not have. Those that it has
/// come home, or are given up at their own deadlines.
void Driver::close(TransferFailure::Kind kind, int code, const std::string& message) {
  if (!breakdown_) breakdown_ = {.kind = kind, .code = code, .message = message};
  backend_.drop_unstarted();
  refuse_unissued();
  refuse_waiting();
}

void Driver::refuse_unissued() {
  for (const BlockState waiting : {BlockState::kStaged, BlockState::kBackingOff}) {
    while (!blocks_.empty(waiting)) {
      fail_block(blocks_.front(waiting), breakdown_->kind, breakdown_->code);
    }
  }
}

/// Fails the operations that have not begun, and the rest of the one that has.
void Driver::refuse_waiting() {
  while (!waiting_.empty()) {
    OperationState& state = *waiting_.front();
    const std::uint64_t issued = state.bytes_issued;
    fail(state, {.kind = breakdown_->kind,
                 .code = breakdown_->code,
                 .offset = state.operation.offset + issued,
                 .bytes = state.operation.buffer.size() - issued});
    finish_if_home(state);
  }
}

/// Notes that the engine takes no more requests; those that it has may still come home.
void Driver::break_down(int code, const std::string& message) {
  log_.error("the I/O engine " + std::string(backend_.name()) + " failed: " + message);
  close(TransferFailure::Kind::kBackend, code, message);
}

/// Notes that the engine says nothing of its requests any more.
void Driver::lose_backend(int code, const std::string& message) {
  break_down(code, message);
  blocks_.for_each_owned([&](BlockIndex index) {
    OperationState& state = *blocks_[index].owner;
    fail(state, failure_of(blocks_[index], TransferFailure::Kind::kLost, code));
    abandon(state);
  });
}

}  // namespace strata::aio
