#include "strata/aio/io_queue.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "aio/io_queue_impl.h"
#include "aio/service_thread.h"
#include "strata/aio/numa.h"
#include "strata/base/error.h"

namespace strata::aio {

using detail::OperationState;
using std::chrono::milliseconds;

namespace {

/// The interval at which a watcher looks, for operations that may take `fail_after`.
milliseconds watch_interval(milliseconds fail_after) {
  return std::clamp(fail_after / 8, milliseconds(5), milliseconds(1'000));
}

}  // namespace

IoQueue::Impl::Impl(const IoQueueOptions& wanted, ChosenBackend chosen, Logger& logger)
    : EngineParts(wanted, std::move(chosen), logger), log(logger) {
  for (std::uint32_t i = 0; i < options.operations_max; ++i) states[i].acceptor = this;
}

// ---- the callers' side ------------------------------------------------------------------------

std::optional<IoTicket> IoQueue::Impl::accept(std::unique_lock<std::mutex>& lock,
                                              const Operation& operation) {
  throw_if_broken(breakdown);
  if (free.empty()) return std::nullopt;
  OperationState& state = free.pop_front();
  state.operation = operation;
  submitted.push_back(state);
  ++unfinished;
  const bool wake = std::exchange(parked, false);
  IoTicket ticket({shared_from_this(), &state}, state.phase.load(std::memory_order_relaxed));
  lock.unlock();
  if (wake) backend->wake();
  return ticket;
}

void IoQueue::Impl::wait_for(OperationState& state, std::uint32_t generation) noexcept {
  state.phase.wait(generation);
}

void IoQueue::Impl::reclaim(OperationState& state) {
  {
    const std::lock_guard lock(mutex);
    state.reclaim();
    free.push_back(state);
  }
  room.notify_one();
}

void IoQueue::Impl::start_threads() {
  thread = start_service_thread("strata-io", [impl = shared_from_this()] { impl->run(); });
  if (!backend->may_wait_in_enqueue()) return;
  try {
    watcher =
        start_service_thread("strata-io-watch", [impl = shared_from_this()] { impl->watch(); });
  } catch (...) {
    stop();
    throw;
  }
}

void IoQueue::Impl::stop() {
  std::unique_lock lock(mutex);
  stopping = true;
  lock.unlock();
  backend->wake();
  lock.lock();
  stopped.wait(lock, [&] { return has_stopped; });
  lock.unlock();
  if (watcher.joinable()) watcher.join();
  // The kernel does not let a thread end while a request of its own is stuck: then it is left
  // behind, with its share of the state.
  if (has_lost_requests) {
    thread.detach();
  } else {
    thread.join();
    backend.reset();  // tickets may keep the rest for longer
  }
}

// ---- the driver's side ------------------------------------------------------------------------

void IoQueue::Impl::run() {
  move_to_its_node();
  while (serve_callers()) {
    if (!driver.turn()) return;  // all of this is the watcher's now
  }
}

/// Serves callers once. False when there is nothing left to do and never will be.
bool IoQueue::Impl::serve_callers() {
  const bool goes_on = exchange_with_callers();
  notify_finished();
  obey(std::exchange(taken, nullptr));
  return goes_on;
}

void IoQueue::Impl::watch() {
  GuardedCall& call = driver.call();
  const auto patience = options.fail_after - options.warn_after;
  bool has_warned = false;
  while (true) {
    {
      std::unique_lock lock(mutex);
      if (stopped.wait_for(lock, watch_interval(options.fail_after), [&] { return has_stopped; })) {
        return;
      }
    }
    const Time now = options.clock->now();
    if (!has_warned && call.deadline() - patience <= now) {
      has_warned = true;
      log.warning("the I/O engine " + description +
                  " is held up while it takes requests; a file system is frozen or stuck "
                  "(see dmesg)");
    }
    if (!call.take_over(now)) continue;
    driver.give_up_all();
    while (serve_callers()) {
    }
    return;
  }
}

void IoQueue::Impl::move_to_its_node() {
  const std::string refusal = run_on_numa_node(options.numa_node);
  if (refusal.empty()) return;
  log.warning("I/O threads are not bound to NUMA node " + std::to_string(options.numa_node) + ": " +
              refusal);
}

/// Publishes what has finished and takes what was submitted. False when there is nothing left to
/// do and never will be.
bool IoQueue::Impl::exchange_with_callers() {
  const std::lock_guard lock(mutex);
  driver.take_finished(finished);
  publish_finished();
  while (!submitted.empty()) driver.add(submitted.pop_front());
  taken = std::exchange(commands, nullptr);
  statistics = driver.statistics();
  if (!breakdown) breakdown = driver.breakdown();
  parked = !driver.saturated();
  if (!driver.idle() || driver.has_finished() || !(stopping || breakdown)) return true;
  has_lost_requests = driver.has_lost_requests();
  has_stopped = true;
  stopped.notify_all();
  return false;
}

void IoQueue::Impl::publish_finished() {
  for (OperationState* state : finished) {
    --unfinished;
    if (state->end_use()) free.push_back(*state);
  }
}

void IoQueue::Impl::notify_finished() {
  if (finished.empty()) return;
  for (OperationState* state : finished) state->phase.notify_all();
  room.notify_all();
  finished.clear();
}

// ---- the queue --------------------------------------------------------------------------------

IoQueue::IoQueue(const IoQueueOptions& options, const std::filesystem::path& probe_directory,
                 Logger& log)
    : impl_(std::make_shared<Impl>(options, choose_backend(checked(options), probe_directory, log),
                                   log)) {
  impl_->start_threads();
}

IoQueue::IoQueue(const IoQueueOptions& options, std::unique_ptr<Backend> backend, Logger& log)
    : impl_(std::make_shared<Impl>(options, chosen_by_caller(std::move(backend)), log)) {
  impl_->start_threads();
}

IoQueue::~IoQueue() { impl_->stop(); }

std::optional<IoTicket> IoQueue::try_submit(const Operation& operation) {
  check_operation(operation);
  std::unique_lock lock(impl_->mutex);
  return impl_->accept(lock, operation);
}

IoTicket IoQueue::submit(const Operation& operation) {
  check_operation(operation);
  std::unique_lock lock(impl_->mutex);
  impl_->room.wait(
      lock, [&] { return !impl_->free.empty() || impl_->breakdown || impl_->unfinished == 0; });
  if (std::optional<IoTicket> ticket = impl_->accept(lock, operation)) return std::move(*ticket);
  throw_no_room(impl_->options.operations_max);
}

bool IoQueue::wait_for_room(std::chrono::nanoseconds timeout) {
  std::unique_lock lock(impl_->mutex);
  const auto has_answer = [&] { return !impl_->free.empty() || impl_->breakdown; };
  constexpr std::chrono::hours kLong{24 * 365};  // "for ever" would overflow
  impl_->room.wait_for(lock, std::min<std::chrono::nanoseconds>(timeout, kLong),
                       [&] { return has_answer() || impl_->unfinished == 0; });
  return has_answer();
}

std::uint32_t IoQueue::operations_max() const noexcept { return impl_->options.operations_max; }

IoStatistics IoQueue::statistics() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->statistics;
}

std::shared_ptr<const LostMemory> IoQueue::lost_memory() const noexcept { return impl_->lost; }

const IoQueueOptions& IoQueue::options() const noexcept { return impl_->options; }

const std::string& IoQueue::description() const noexcept { return impl_->description; }

}  // namespace strata::aio
