#include "zero3/step_thread.h"

#include <algorithm>
#include <optional>

#include "strata/base/error.h"
#include "zero3/start_transfer.h"

namespace strata::zero3 {

StepThread::StepThread(optim_cpu::WindowPipeline& pipeline, tiering::ShardStore* store,
                       std::size_t units, Counters* waits)
    : pipeline_(pipeline), store_(store), waits_(waits), due_(units), thread_([this] { run(); }) {}

StepThread::~StepThread() {
  {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

// ---- the engine's thread -----------------------------------------------------------------------

void StepThread::begin(std::span<const optim_cpu::UpdateGroup> groups,
                       std::span<const UnitUpdate> updates) {
  wait();
  pipeline_.begin(groups);
  std::ranges::fill(due_, 0);
  all_due_ = 0;
  completed_ = 0;
  for (const UnitUpdate& update : updates) {
    const bool taken = pipeline_.offer(*update.states);
    STRATA_CHECK(taken, "the optimizer has a place for every vector");
    due_[update.unit] = ++all_due_;
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
  std::optional<ScopedTimer> waiting;
  if (waits_ != nullptr) waiting.emplace(*waits_, Hop::kStep, ScopedTimer::Kind::kWait);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return completed_ >= count || failure_ != nullptr; });
  if (completed_ < count) std::rethrow_exception(failure_);
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
