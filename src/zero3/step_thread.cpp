#include "zero3/step_thread.h"

#include <algorithm>

#include "strata/base/error.h"
#include "zero3/start_transfer.h"

namespace strata::zero3 {

namespace {

/// Whether an update leaves out elements, and so perhaps whole windows.
bool is_partial(const optim_cpu::ShardStates& states) {
  return std::ranges::any_of(states.segments, [](const optim_cpu::Segment& segment) {
    return segment.group == optim_cpu::kNotUpdated;
  });
}

}  // namespace

StepThread::StepThread(optim_cpu::WindowPipeline& pipeline, tiering::ShardStore* store,
                       std::size_t units, Counters& counters, Counters* waits)
    : pipeline_(pipeline),
      store_(store),
      counters_(counters),
      waits_(waits),
      due_(units),
      thread_([this] { run(); }) {
  pipeline_.give_weights_to(this);
}

StepThread::~StepThread() {
  {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
  pipeline_.give_weights_to(nullptr);
}

// ---- the engine's thread -----------------------------------------------------------------------

void StepThread::begin(std::span<const optim_cpu::UpdateGroup> groups,
                       std::span<const UnitUpdate> updates) {
  {
    const std::lock_guard lock(mutex_);
    STRATA_CHECK(!is_stepping_ && failure_ == nullptr, "the step before was waited for");
  }
  pipeline_.begin(groups);
  std::ranges::fill(due_, 0);
  all_due_ = 0;
  completed_ = 0;
  updates_.clear();
  current_ = 0;
  for (const UnitUpdate& update : updates) {
    const bool taken = pipeline_.offer(*update.states);
    STRATA_CHECK(taken, "the optimizer has a place for every vector");
    due_[update.unit] = ++all_due_;
    updates_.push_back({update.unit, update.states, is_partial(*update.states)});
  }
  {
    const std::lock_guard lock(mutex_);
    is_stepping_ = true;
  }
  changed_.notify_all();
}

bool StepThread::is_pending(UnitId unit) const noexcept {
  return due_[unit] > completed_.load(std::memory_order_acquire);
}

void StepThread::wait_for(UnitId unit) { wait_for_count(due_[unit]); }

void StepThread::wait() {
  wait_for_count(all_due_);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !is_stepping_; });
}

void StepThread::wait_for_count(std::uint64_t count) {
  if (completed_.load(std::memory_order_acquire) >= count) return;
  const ScopedTimer waiting(waits_, Hop::kStep, ScopedTimer::Kind::kWait);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return completed_ >= count || failure_ != nullptr; });
  if (completed_ < count) std::rethrow_exception(failure_);
}

std::span<StepThread::Update> StepThread::updates_of(UnitId unit) {
  const std::uint64_t end = due_[unit];  // the count with its last one
  std::uint64_t begin = end;
  while (begin > 0 && updates_[begin - 1].unit == unit) --begin;
  return std::span(updates_).subspan(begin, end - begin);
}

bool StepThread::deliver(UnitId unit, std::span<const std::span<std::byte>> targets) {
  const std::lock_guard lock(mutex_);
  const std::span<Update> updates = updates_of(unit);
  const bool is_possible = is_pending(unit) && updates.size() == targets.size() &&
                           std::ranges::none_of(updates, [](const Update& update) {
                             return update.is_partial || update.has_begun;
                           });
  if (!is_possible) return false;
  for (std::size_t i = 0; i < updates.size(); ++i) updates[i].target = targets[i];
  return true;
}

void StepThread::withdraw(UnitId unit) {
  const std::lock_guard lock(mutex_);
  for (Update& update : updates_of(unit)) update.target = {};
}

// ---- the thread of steps -----------------------------------------------------------------------

void StepThread::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return is_stepping_ || is_ending_; });
    if (is_ending_) return;
    lock.unlock();
    std::exception_ptr failure;
    try {
      make_step();
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    failure_ = failure;
    is_stepping_ = false;
    changed_.notify_all();
  }
}

/// Copies under the lock, so that nothing is written to a target after `withdraw`.
void StepThread::take(const optim_cpu::ShardStates& shard, std::uint64_t begin,
                      std::span<const std::byte> weights) {
  const std::lock_guard lock(mutex_);
  while (updates_[current_].states != &shard) ++current_;
  Update& update = updates_[current_];
  update.has_begun = true;
  if (update.target.empty()) return;
  const std::uint64_t width = state_bytes(shard.format, StateKind::kWeight);
  const std::span<std::byte> target = update.target.subspan(begin * width, weights.size());
  ScopedTimer busy(counters_, Hop::kUpload, ScopedTimer::Kind::kBusy, shard.name, weights.size());
  busy.reads(memory_range(weights));
  busy.writes(memory_range(target));
  std::ranges::copy(weights, target.begin());
  counters_.add_moved(Hop::kUpload, weights.size());
}

void StepThread::make_step() {
  while (true) {
    const bool goes_on = pipeline_.advance();
    {
      const std::lock_guard lock(mutex_);
      completed_.store(pipeline_.completed(), std::memory_order_release);
      if (is_ending_) return;
    }
    changed_.notify_all();
    if (!goes_on) {
      wait_for_room(*store_);
    } else if (pipeline_.completed() == all_due_) {
      break;
    }
  }
  const bool is_finished = pipeline_.finish();
  STRATA_CHECK(is_finished, "a step whose updates are complete is over");
}

}  // namespace strata::zero3
