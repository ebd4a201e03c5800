#include "zero3/step_thread.h"

#include <algorithm>
#include <utility>

#include "strata/base/error.h"
#include "strata/tiering/start_transfer.h"

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
      pending_(units),
      submitted_(units),
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

void StepThread::begin(std::span<const optim_cpu::UpdateGroup> groups) {
  {
    const std::lock_guard lock(mutex_);
    STRATA_CHECK(!is_stepping_ && failure_ == nullptr, "the step before was waited for");
  }
  pipeline_.begin(groups);
  {
    const std::lock_guard lock(mutex_);
    updates_.clear();
    std::ranges::fill(submitted_, UnitSubmission{});
    offered_.clear();
    completed_ = 0;
    current_ = 0;
    is_closed_ = false;
    is_stepping_ = true;
  }
  changed_.notify_all();
}

void StepThread::submit(std::span<const UnitUpdate> updates) {
  if (updates.empty()) return;
  const UnitId unit = updates.front().unit;
  {
    const std::lock_guard lock(mutex_);
    STRATA_CHECK(!is_closed_ && pending_[unit] == 0, "a unit is updated once in a step");
    submitted_[unit] = {updates_.size(), updates.size()};
    pending_[unit] = static_cast<std::uint32_t>(updates.size());
    for (const UnitUpdate& update : updates) {
      waiting_.push_back(updates_.size());
      updates_.push_back({unit, update.states, is_partial(*update.states)});
    }
  }
  changed_.notify_all();
}

void StepThread::close() {
  {
    const std::lock_guard lock(mutex_);
    is_closed_ = true;
    std::ranges::stable_sort(waiting_, {},
                             [&](std::size_t update) { return updates_[update].unit; });
  }
  changed_.notify_all();
}

void StepThread::fail(std::exception_ptr why) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_ == nullptr) failure_ = std::move(why);
    is_closed_ = true;
    waiting_.clear();
  }
  changed_.notify_all();
}

bool StepThread::is_pending(UnitId unit) const noexcept {
  return pending_[unit].load(std::memory_order_acquire) > 0;
}

void StepThread::wait_for(UnitId unit) {
  if (!is_pending(unit)) return;
  wait_until([&] { return !is_pending(unit); });
}

void StepThread::wait() {
  wait_until([&] {
    return failure_ == nullptr && completed_ == offered_.size() && waiting_.empty() &&
           !(is_closed_ && is_stepping_);
  });
}

template <class IsOver>
void StepThread::wait_until(const IsOver& is_over) {
  std::unique_lock lock(mutex_);
  if (is_over()) return;
  const ScopedTimer waiting(waits_, Hop::kStep, ScopedTimer::Kind::kWait);
  changed_.wait(lock, [&] { return is_over() || (failure_ != nullptr && !is_stepping_); });
  if (!is_over()) std::rethrow_exception(failure_);
}

std::span<StepThread::Update> StepThread::updates_of(UnitId unit) {
  const UnitSubmission& submission = submitted_[unit];
  return std::span(updates_).subspan(submission.first, submission.count);
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
    if (failure_ == nullptr) failure_ = failure;
    is_stepping_ = false;
    changed_.notify_all();
  }
}

/// Copies under the lock, so that nothing is written to a target after `withdraw`.
void StepThread::take(const optim_cpu::ShardStates& shard, std::uint64_t begin,
                      std::span<const std::byte> weights) {
  const std::lock_guard lock(mutex_);
  while (updates_[offered_[current_]].states != &shard) ++current_;
  Update& update = updates_[offered_[current_]];
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
  while (offer_some()) {
    if (!pipeline_.advance()) wait_for_room(*store_);
    note_completed();
  }
  {
    const std::lock_guard lock(mutex_);
    if (is_ending_) return;
  }
  const bool is_finished = pipeline_.finish();
  STRATA_CHECK(is_finished, "a step whose updates are complete is over");
}

bool StepThread::offer_some() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return is_ending_ || is_closed_ || !waiting_.empty() || completed_ < offered_.size();
  });
  if (is_ending_) return false;
  while (!waiting_.empty() && pipeline_.wants_shard()) {
    // Under backward the newest goes first, so that what the disk does not manage by then is spread
    // over all of forward: decision 0035.
    if (!is_closed_) std::rotate(waiting_.begin(), std::prev(waiting_.end()), waiting_.end());
    offered_.push_back(waiting_.front());
    waiting_.pop_front();
    const bool taken = pipeline_.offer(*updates_[offered_.back()].states);
    STRATA_CHECK(taken, "the optimizer has a place for every vector");
  }
  return completed_ < offered_.size();
}

void StepThread::note_completed() {
  {
    const std::lock_guard lock(mutex_);
    for (; completed_ < pipeline_.completed(); ++completed_) {
      --pending_[updates_[offered_[completed_]].unit];
    }
  }
  changed_.notify_all();
}

}  // namespace strata::zero3
