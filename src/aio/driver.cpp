#include "aio/driver.h"

#include <algorithm>
#include <cerrno>
#include <exception>
#include <span>

#include "strata/aio/path_meter.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::aio {
namespace {

using detail::OperationState;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// EINTR, EAGAIN and transfers without progress: 100 us, doubled each time, about 100 ms in all.
constexpr std::uint32_t kAttemptsMax = 10;
constexpr microseconds kBackoffFirst{100};

// A backend that is empty and still accepts nothing is asked again after this.
constexpr milliseconds kRefusedPause{1};

/// Transfers start and end at multiples of this.
std::uint32_t granule_of(const IoFile& file) { return file.direct() ? file.alignment() : 1; }

std::uint64_t block_bytes_for(const IoFile& file, std::uint32_t block_bytes) {
  const std::uint32_t alignment = file.alignment();
  return std::max(alignment, block_bytes / alignment * alignment);
}

TransferFailure cancellation_of(const Operation& operation) {
  return {.kind = TransferFailure::Kind::kCancelled,
          .code = ECANCELED,
          .offset = operation.offset,
          .bytes = operation.buffer.size()};
}

/// Does `action`. What it throws goes to `failed`, as an errno and a message.
template <typename Action, typename Failed>
void guard(const Action& action, const Failed& failed) {
  try {
    action();
  } catch (const IoError& error) {
    failed(error.code(), error.what());
  } catch (const std::exception& error) {
    failed(EIO, error.what());
  }
}

}  // namespace

void throw_if_broken(const std::optional<Breakdown>& breakdown) {
  if (!breakdown) return;
  std::rethrow_exception(make_error(breakdown->kind, breakdown->code,
                                    "this queue accepts nothing more: " + breakdown->message));
}

Driver::Driver(const IoQueueOptions& options, Backend& backend, LostMemory& lost, Logger& log)
    : options_(options),
      clock_(*options.clock),
      backend_(backend),
      lost_(lost),
      log_(log),
      blocks_(std::min(options.depth, backend.capacity())),
      completions_(blocks_.size()),
      next_check_(clock_.now() + options.warn_after) {
  free_.reserve(blocks_.size());
  for (auto i = static_cast<BlockIndex>(blocks_.size()); i > 0; --i) free_.push_back(i - 1);
  staged_.reserve(blocks_.size());
  backing_off_.reserve(blocks_.size());
  requests_.reserve(blocks_.size());
  finished_.reserve(options.operations_max);
}

void Driver::add(OperationState& state) {
  state.bytes_issued = 0;
  state.blocks_out = 0;
  state.failure = {};
  state.cancelled = false;
  ++unfinished_;
  waiting_.push_back(state);
  if (breakdown_) {
    refuse_waiting();
  } else {
    stage_new_blocks();
  }
}

void Driver::cancel(OperationState& state) {
  state.cancelled = true;
  if (state.failed()) return;  // nothing more is issued for it anyway
  std::uint32_t dropped = 0;
  const auto drop = [&](BlockIndex index) {
    if (blocks_[index].state != &state) return false;
    blocks_[index].state = nullptr;
    free_.push_back(index);
    ++dropped;
    return true;
  };
  std::erase_if(staged_, drop);
  std::erase_if(backing_off_, drop);
  state.blocks_out -= dropped;
  if (dropped == 0 && state.bytes_issued == state.operation.buffer.size()) return;
  state.failure = cancellation_of(state.operation);
  drop_remainder(state);
  finish_if_home(state);
  stage_new_blocks();
}

bool Driver::turn(nanoseconds wait_max) noexcept {
  if (!finished_.empty()) return true;
  const Time before = clock_.now();
  bool is_ours = true;
  const auto issue = [&] {
    stage_retries(before);
    is_ours = enqueue_staged(before);
  };
  guard(issue, [&](int code, const char* message) { break_down(code, message); });
  if (!is_ours) return false;
  if (!finished_.empty()) return true;
  const auto work_off = [&] {
    const nanoseconds timeout = std::min(wait_max, time_until_due(before));
    const std::size_t count = backend_.reap(completions_, timeout);
    const Time after = clock_.now();
    for (std::size_t i = 0; i < count; ++i) complete(completions_[i], after);
    if (after >= next_check_) check_deadlines(after);
    stage_new_blocks();
  };
  guard(work_off, [&](int code, const char* message) { lose_backend(code, message); });
  return true;
}

void Driver::take_finished(std::vector<OperationState*>& finished) {
  finished.insert(finished.end(), finished_.begin(), finished_.end());
  finished_.clear();
}

// ---- issuing ----------------------------------------------------------------------------------

void Driver::stage_new_blocks() {
  while (!waiting_.empty() && !free_.empty()) {
    OperationState& state = *waiting_.front();
    const Operation& operation = state.operation;
    const std::uint64_t remaining = operation.buffer.size() - state.bytes_issued;
    const std::uint64_t bytes =
        std::min(remaining, block_bytes_for(*operation.file, options_.block_bytes));
    const BlockIndex index = free_.back();
    free_.pop_back();
    blocks_[index] = {.state = &state,
                      .offset = operation.offset + state.bytes_issued,
                      .data = operation.buffer.data() + state.bytes_issued,
                      .bytes = static_cast<std::uint32_t>(bytes),
                      .attempts = 0,
                      .started = {},
                      .not_before = {},
                      .warned = false};
    staged_.push_back(index);
    ++state.blocks_out;
    state.bytes_issued += bytes;
    if (bytes == remaining) waiting_.pop_front();
  }
}

void Driver::stage_retries(Time now) {
  std::erase_if(backing_off_, [&](BlockIndex index) {
    if (blocks_[index].not_before > now) return false;
    staged_.push_back(index);
    return true;
  });
}

/// False when the call into the backend was taken over.
bool Driver::enqueue_staged(Time now) {
  if (staged_.empty()) return true;
  requests_.clear();
  for (const BlockIndex index : staged_) {
    Block& block = blocks_[index];
    if (block.started == Time{}) block.started = now;
    requests_.push_back({.kind = block.state->operation.kind,
                         .fd = block.state->operation.file->fd(),
                         .offset = block.offset,
                         .data = block.data,
                         .bytes = block.bytes,
                         .tag = index});
  }
  bool is_taken = false;
  const std::size_t accepted = hand_over(is_taken);
  if (is_taken) return false;
  STRATA_CHECK(accepted <= staged_.size(), "accepted=" + std::to_string(accepted));
  for (const BlockIndex index : std::span(staged_).first(accepted)) {
    const Operation& operation = blocks_[index].state->operation;
    if (operation.meter != nullptr) operation.meter->begin(operation.kind, now);
  }
  staged_.erase(staged_.begin(), staged_.begin() + static_cast<std::ptrdiff_t>(accepted));
  in_backend_ += static_cast<std::uint32_t>(accepted);
  statistics_.requests += accepted;
  return true;
}

/// Gives `requests_` to the backend. Of a call that was taken over nothing is returned or thrown.
std::size_t Driver::hand_over(bool& is_taken) {
  if (!backend_.may_wait_in_enqueue()) return backend_.enqueue(requests_);
  call_.open(first_deadline());
  std::size_t accepted = 0;
  std::exception_ptr failure;
  try {
    accepted = backend_.enqueue(requests_);
  } catch (...) {
    failure = std::current_exception();
  }
  is_taken = !call_.close();
  if (failure && !is_taken) std::rethrow_exception(failure);
  return accepted;
}

/// When the first request that is under way, or about to be, has to be back.
Time Driver::first_deadline() const {
  Time first = Time::max();
  for (const Block& block : blocks_) {
    if (block.state != nullptr) first = std::min(first, block.started + options_.fail_after);
  }
  return first;
}

nanoseconds Driver::time_until_due(Time now) const {
  Time until = next_check_;
  if (!staged_.empty() && in_backend_ == 0) until = std::min(until, now + kRefusedPause);
  for (const BlockIndex index : backing_off_) until = std::min(until, blocks_[index].not_before);
  return std::max(nanoseconds(0), nanoseconds(until - now));
}

// ---- completions ------------------------------------------------------------------------------

void Driver::complete(const Completion& completion, Time now) {
  STRATA_CHECK(completion.tag < blocks_.size(), "tag=" + std::to_string(completion.tag));
  --in_backend_;
  const auto index = static_cast<BlockIndex>(completion.tag);
  const Block& block = blocks_[index];
  if (block.state == nullptr) return;  // it was given up at its deadline
  const Operation& operation = block.state->operation;
  if (operation.meter != nullptr) {
    const std::int64_t moved = std::max<std::int64_t>(completion.result, 0);
    operation.meter->end(operation.kind, static_cast<std::uint64_t>(moved), now);
  }
  if (completion.result == -EINTR || completion.result == -EAGAIN) {
    ++statistics_.retries;
    retry(index, TransferFailure::Kind::kSystem, static_cast<int>(-completion.result), now);
  } else if (completion.result == -ECANCELED && breakdown_) {
    fail_block(index, breakdown_->kind, breakdown_->code);  // it was dropped before it began
  } else if (completion.result < 0) {
    fail_block(index, TransferFailure::Kind::kSystem, static_cast<int>(-completion.result));
  } else {
    advance(index, static_cast<std::uint64_t>(completion.result), now);
  }
}

void Driver::advance(BlockIndex index, std::uint64_t moved, Time now) {
  Block& block = blocks_[index];
  const Operation& operation = block.state->operation;
  const bool reading = operation.kind == OpKind::kRead;
  STRATA_CHECK(moved <= block.bytes,
               "moved=" + std::to_string(moved) + " asked=" + std::to_string(block.bytes));
  if (reading && moved == 0) return fail_block(index, TransferFailure::Kind::kEndOfFile, 0);

  // What is left has to start at a multiple again.
  const bool whole = moved == block.bytes;
  const std::uint64_t progress = whole ? moved : moved - moved % granule_of(*operation.file);
  (reading ? statistics_.bytes_read : statistics_.bytes_written) += progress;
  if (whole) return release(index);

  ++statistics_.short_transfers;
  if (ends_early(index)) return;
  if (progress == 0) {
    const auto kind = reading ? TransferFailure::Kind::kEndOfFile : TransferFailure::Kind::kSystem;
    return retry(index, kind, reading ? 0 : EIO, now);
  }
  block.offset += progress;
  block.data += progress;
  block.bytes -= static_cast<std::uint32_t>(progress);
  block.attempts = 0;
  staged_.push_back(index);
}

/// Tries again after a pause, or fails for the given reason when that was tried often enough.
void Driver::retry(BlockIndex index, TransferFailure::Kind kind, int code, Time now) {
  if (ends_early(index)) return;
  Block& block = blocks_[index];
  if (block.attempts == kAttemptsMax) return fail_block(index, kind, code);
  // A signal has nothing to do with load: no pause after the first.
  const bool at_once = code == EINTR && block.attempts == 0;
  block.not_before = at_once ? now : now + kBackoffFirst * (1u << block.attempts);
  ++block.attempts;
  backing_off_.push_back(index);
}

void Driver::fail_block(BlockIndex index, TransferFailure::Kind kind, int code) {
  const Block& block = blocks_[index];
  OperationState& state = *block.state;
  if (!state.failed()) {
    state.failure = {.kind = kind, .code = code, .offset = block.offset, .bytes = block.bytes};
    drop_remainder(state);
  }
  release(index);
}

/// Gives back a block that is not done when its operation wants no more requests, or no more can
/// be made.
bool Driver::ends_early(BlockIndex index) {
  OperationState& state = *blocks_[index].state;
  if (!state.failed() && !state.cancelled) {
    if (!breakdown_) return false;
    fail_block(index, breakdown_->kind, breakdown_->code);
    return true;
  }
  if (!state.failed()) {
    state.failure = cancellation_of(state.operation);
    drop_remainder(state);
  }
  release(index);
  return true;
}

void Driver::release(BlockIndex index) {
  OperationState& state = *blocks_[index].state;
  blocks_[index].state = nullptr;
  free_.push_back(index);
  --state.blocks_out;
  finish_if_home(state);
}

void Driver::drop_remainder(OperationState& state) {
  if (state.bytes_issued == state.operation.buffer.size()) return;
  waiting_.erase(state);
  state.bytes_issued = state.operation.buffer.size();
}

/// An operation has an outcome only when none of its requests can touch its buffer any more.
void Driver::finish_if_home(OperationState& state) {
  if (state.blocks_out > 0 || state.bytes_issued < state.operation.buffer.size()) return;
  finished_.push_back(&state);
  --unfinished_;
}

// ---- deadlines --------------------------------------------------------------------------------

void Driver::check_deadlines(Time now) {
  next_check_ = now + std::min(options_.warn_after, options_.fail_after);
  for (BlockIndex index = 0; index < blocks_.size(); ++index) {
    Block& block = blocks_[index];
    if (block.state == nullptr) continue;
    if (now >= block.started + options_.fail_after) {
      give_up(index);
      continue;
    }
    if (!block.warned && now >= block.started + options_.warn_after) {
      block.warned = true;
      const auto age = std::chrono::duration_cast<milliseconds>(now - block.started);
      log_.warning(describe_transfer(block.state->operation, block.offset, block.bytes) +
                   ": no answer for " + std::to_string(age.count()) +
                   " ms; the device or its file system is slow or stuck (see dmesg)");
    }
    const auto patience = block.warned ? options_.fail_after : options_.warn_after;
    next_check_ = std::min<Time>(next_check_, block.started + patience);
  }
}

/// Fails the operation of a request that never came back, and with it the queue.
void Driver::give_up(BlockIndex index) {
  const Block block = blocks_[index];
  OperationState& state = *block.state;
  state.failure = {.kind = TransferFailure::Kind::kDeadline,
                   .code = ETIMEDOUT,
                   .offset = block.offset,
                   .bytes = block.bytes};
  const std::string message = describe_failure(state.operation, state.failure);
  log_.error(message);
  drop_remainder(state);
  abandon(state);
  close(TransferFailure::Kind::kDeadline, ETIMEDOUT, message);
}

/// Fails everything. What the engine does with its requests is not known any more, and it is not
/// asked: it is held up in a call.
void Driver::give_up_all() {
  for (Block& block : blocks_) {
    if (block.state == nullptr) continue;
    OperationState& state = *block.state;
    state.failure = {.kind = TransferFailure::Kind::kDeadline,
                     .code = ETIMEDOUT,
                     .offset = block.offset,
                     .bytes = block.bytes};
    if (!breakdown_) {
      const std::string message = describe_failure(state.operation, state.failure);
      log_.error(message);
      breakdown_ = {.kind = state.failure.kind, .code = state.failure.code, .message = message};
    }
    drop_remainder(state);
    abandon(state);
  }
  refuse_waiting();
}

/// Finishes an operation whose requests are still out. Their blocks are never used again, so that
/// a completion that arrives after all finds nobody.
void Driver::abandon(OperationState& state) {
  lost_.add(state.operation.buffer);
  const auto is_abandoned = [&](BlockIndex index) { return blocks_[index].state == &state; };
  std::erase_if(staged_, is_abandoned);
  std::erase_if(backing_off_, is_abandoned);
  for (Block& block : blocks_) {
    if (block.state == &state) block.state = nullptr;
  }
  state.blocks_out = 0;
  finish_if_home(state);
}

/// Nothing more begins: fails whatever the kernel does not have. What it has comes home, or is
/// given up at its own deadline.
void Driver::close(TransferFailure::Kind kind, int code, const std::string& message) {
  if (!breakdown_) breakdown_ = {.kind = kind, .code = code, .message = message};
  backend_.drop_unstarted();
  refuse_staged();
  refuse_waiting();
}

void Driver::refuse_staged() {
  for (std::vector<BlockIndex>* list : {&staged_, &backing_off_}) {
    for (const BlockIndex index : *list) fail_block(index, breakdown_->kind, breakdown_->code);
    list->clear();
  }
}

/// Fails the operations that have not begun, and the rest of the one that has.
void Driver::refuse_waiting() {
  while (!waiting_.empty()) {
    OperationState& state = waiting_.pop_front();
    const std::uint64_t issued = state.bytes_issued;
    state.failure = {.kind = breakdown_->kind,
                     .code = breakdown_->code,
                     .offset = state.operation.offset + issued,
                     .bytes = state.operation.buffer.size() - issued};
    state.bytes_issued = state.operation.buffer.size();
    finish_if_home(state);
  }
}

/// The engine takes no more requests; those that it has may still come home.
void Driver::break_down(int code, const std::string& message) {
  log_.error("the I/O engine " + std::string(backend_.name()) + " failed: " + message);
  close(TransferFailure::Kind::kBackend, code, message);
}

/// The engine says nothing of its requests any more.
void Driver::lose_backend(int code, const std::string& message) {
  break_down(code, message);
  for (Block& block : blocks_) {
    if (block.state == nullptr) continue;
    OperationState& state = *block.state;
    state.failure = {.kind = TransferFailure::Kind::kLost,
                     .code = code,
                     .offset = block.offset,
                     .bytes = block.bytes};
    abandon(state);
  }
}

}  // namespace strata::aio
