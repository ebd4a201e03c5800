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

/// Does `action`. An exception from it goes to `failed`, as an errno and a message.
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

Driver::Driver(const IoQueueOptions& options, Backend& backend, LostMemory& lost, Logger& log)
    : options_(options),
      clock_(*options.clock),
      backend_(backend),
      lost_(lost),
      log_(log),
      blocks_(std::min(options.depth, backend.capacity())),
      completions_(blocks_.size()),
      next_check_(clock_.now() + options.warn_after) {
  requests_.reserve(blocks_.size());
  finished_.reserve(options.operations_max);
}

void Driver::add(OperationState& state) {
  state.bytes_issued = 0;
  state.blocks_out = 0;
  state.failure = {};
  if (unfinished_++ == 0) busy_since_ = clock_.now();
  waiting_.push_back(state);
  if (breakdown_) {
    refuse_waiting();
  } else {
    stage_new_blocks();
  }
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
  while (!waiting_.empty() && !blocks_.empty(BlockState::kFree)) {
    OperationState& state = *waiting_.front();
    const Operation& operation = state.operation;
    const std::uint64_t remaining = operation.buffer.size() - state.bytes_issued;
    const std::uint64_t bytes =
        std::min(remaining, block_bytes_for(*operation.file, options_.block_bytes));
    const BlockIndex index = blocks_.front(BlockState::kFree);
    blocks_.move(index, BlockState::kStaged);
    blocks_[index] = {.owner = &state,
                      .offset = operation.offset + state.bytes_issued,
                      .data = operation.buffer.data() + state.bytes_issued,
                      .bytes = static_cast<std::uint32_t>(bytes)};
    ++state.blocks_out;
    state.bytes_issued += bytes;
    if (bytes == remaining) waiting_.pop_front();
  }
}

void Driver::stage_retries(Time now) {
  blocks_.for_each(BlockState::kBackingOff, [&](BlockIndex index) {
    if (blocks_[index].not_before <= now) blocks_.move(index, BlockState::kStaged);
  });
}

/// Enqueues what is staged. False when the call into the backend was taken over.
bool Driver::enqueue_staged(Time now) {
  if (blocks_.empty(BlockState::kStaged)) return true;
  requests_.clear();
  blocks_.for_each(BlockState::kStaged, [&](BlockIndex index) {
    Block& block = blocks_[index];
    if (block.started == Time{}) block.started = now;
    requests_.push_back({.kind = block.owner->operation.kind,
                         .fd = block.owner->operation.file->fd(),
                         .offset = block.offset,
                         .data = block.data,
                         .bytes = block.bytes,
                         .tag = index});
  });
  bool is_taken = false;
  const std::size_t accepted = hand_over(is_taken);
  if (is_taken) return false;
  STRATA_CHECK(accepted <= requests_.size(), "accepted=" + std::to_string(accepted));
  for (const Request& request : std::span(requests_).first(accepted)) {
    const auto index = static_cast<BlockIndex>(request.tag);
    blocks_.move(index, BlockState::kIssued);
    const Operation& operation = blocks_[index].owner->operation;
    if (operation.meter != nullptr) operation.meter->begin(operation.kind, now);
    if (operation.times != nullptr && operation.times->first == Time{})
      operation.times->first = now;
  }
  statistics_.requests += accepted;
  return true;
}

/// Gives `requests_` to the backend. A call that was taken over returns and throws nothing.
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

/// The earliest deadline of the requests that are under way, or about to be.
Time Driver::first_deadline() const {
  Time first = Time::max();
  blocks_.for_each_owned([&](BlockIndex index) {
    first = std::min(first, blocks_[index].started + options_.fail_after);
  });
  return first;
}

nanoseconds Driver::time_until_due(Time now) const {
  Time until = next_check_;
  const bool has_nothing_out =
      blocks_.empty(BlockState::kIssued) && blocks_.empty(BlockState::kLost);
  if (has_nothing_out && !blocks_.empty(BlockState::kStaged)) {
    until = std::min(until, now + kRefusedPause);
  }
  blocks_.for_each(BlockState::kBackingOff,
                   [&](BlockIndex index) { until = std::min(until, blocks_[index].not_before); });
  return std::max(nanoseconds(0), nanoseconds(until - now));
}

// ---- completions ------------------------------------------------------------------------------

void Driver::complete(const Completion& completion, Time now) {
  STRATA_CHECK(completion.tag < blocks_.size(), "tag=" + std::to_string(completion.tag));
  const auto index = static_cast<BlockIndex>(completion.tag);
  const BlockState state = blocks_.state_of(index);
  STRATA_CHECK(meaning_of(state).is_in_backend, std::string(meaning_of(state).name));
  if (state == BlockState::kLost) return blocks_.move(index, BlockState::kFree);
  const Operation& operation = blocks_[index].owner->operation;
  if (operation.meter != nullptr) {
    const std::int64_t moved = std::max<std::int64_t>(completion.result, 0);
    operation.meter->end(operation.kind, static_cast<std::uint64_t>(moved), now);
  }
  if (operation.times != nullptr) operation.times->last = now;
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
  const Operation& operation = block.owner->operation;
  const bool reading = operation.kind == OpKind::kRead;
  STRATA_CHECK(moved <= block.bytes,
               "moved=" + std::to_string(moved) + " asked=" + std::to_string(block.bytes));
  if (reading && moved == 0) return fail_block(index, TransferFailure::Kind::kEndOfFile, 0);

  // The rest has to start at a multiple again.
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
  blocks_.move(index, BlockState::kStaged);
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
  blocks_.move(index, BlockState::kBackingOff);
}

void Driver::release(BlockIndex index) {
  OperationState& state = *blocks_[index].owner;
  blocks_.move(index, BlockState::kFree);
  --state.blocks_out;
  finish_if_home(state);
}

/// An operation has an outcome only when none of its requests can touch its buffer any more.
void Driver::finish_if_home(OperationState& state) {
  if (state.blocks_out > 0 || state.bytes_issued < state.operation.buffer.size()) return;
  finished_.push_back(&state);
  if (--unfinished_ == 0) statistics_.busy += clock_.now() - busy_since_;
}

IoStatistics Driver::statistics() const {
  IoStatistics statistics = statistics_;
  if (!idle()) statistics.busy += clock_.now() - busy_since_;
  return statistics;
}

}  // namespace strata::aio
