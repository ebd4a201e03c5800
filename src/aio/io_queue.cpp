#include "strata/aio/io_queue.h"

#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "aio/driver.h"
#include "aio/operation_state.h"
#include "aio/probe.h"
#include "aio/service_thread.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::aio {

using detail::OperationState;

namespace {

void require(bool valid, const std::string& rule) {
  if (!valid) throw ConfigError("I/O options: " + rule);
}

IoQueueOptions checked(const IoQueueOptions& options) {
  require(options.block_bytes >= 4_KiB && options.block_bytes <= 1_GiB &&
              options.block_bytes % 4_KiB == 0,
          "block_bytes is " + std::to_string(options.block_bytes) +
              "; use a multiple of 4096 up to 1 GiB");
  require(options.depth >= 1 && options.depth <= 4096,
          "depth is " + std::to_string(options.depth) + "; use 1 to 4096");
  require(options.threads >= 1 && options.threads <= 256,
          "threads is " + std::to_string(options.threads) + "; use 1 to 256");
  require(options.operations_max >= 1 && options.operations_max <= 65536,
          "operations_max is " + std::to_string(options.operations_max) + "; use 1 to 65536");
  require(options.warn_after.count() > 0 && options.fail_after >= options.warn_after,
          "the times must satisfy 0 < warn_after <= fail_after; they are " +
              std::to_string(options.warn_after.count()) + " ms and " +
              std::to_string(options.fail_after.count()) + " ms");
  return options;
}

void check_operation(const Operation& operation) {
  const IoFile& file = *operation.file;
  const auto address = reinterpret_cast<std::uintptr_t>(operation.buffer.data());
  const std::uint64_t bytes = operation.buffer.size();
  if (bytes == 0 || (operation.offset | bytes | address) % file.alignment() != 0) {
    throw UsageError(describe_transfer(operation, operation.offset, bytes) + ", address " +
                     std::to_string(address) + ": each must be a multiple of " +
                     std::to_string(file.alignment()) + " and the length not zero");
  }
  if (bytes > file.size() || operation.offset > file.size() - bytes) {
    throw UsageError(describe_transfer(operation, operation.offset, bytes) +
                     ": beyond the file's " + std::to_string(file.size()) +
                     " bytes; preallocate it first");
  }
}

}  // namespace

/// What callers and the driver's thread share. The mutex guards everything between it and the
/// thread; the driver itself belongs to the thread alone.
struct IoQueue::Impl {
  Impl(const IoQueueOptions& wanted, ChosenBackend chosen, Logger& log);

  /// Accepts a checked operation if there is a place.
  std::optional<IoTicket> accept(std::unique_lock<std::mutex>& lock, const Operation& operation);
  void throw_if_broken() const;
  /// Frees the place of a failed operation.
  void reclaim(OperationState& state);

  void run();
  bool exchange_with_callers();
  void publish_finished();
  void notify_finished();

  const IoQueueOptions options;
  const std::string description;
  const std::unique_ptr<Backend> backend;
  const std::unique_ptr<OperationState[]> states;

  std::mutex mutex;
  std::condition_variable room;     // a place has become free, or none ever will
  std::condition_variable stopped;  // the driver's thread has left its loop
  detail::OperationList free;
  detail::OperationList submitted;
  std::uint32_t unfinished = 0;
  IoStatistics statistics;
  std::optional<Driver::Breakdown> breakdown;
  bool parked = false;  // the driver waits, or will before it looks here again
  bool stopping = false;
  bool has_stopped = false;
  bool has_lost_requests = false;

  Driver driver;
  std::vector<OperationState*> finished;  // of the driver's thread
  std::thread thread;
};

IoQueue::Impl::Impl(const IoQueueOptions& wanted, ChosenBackend chosen, Logger& log)
    : options(wanted),
      description(std::move(chosen.description)),
      backend(std::move(chosen.backend)),
      states(std::make_unique<OperationState[]>(options.operations_max)),
      driver(options, *backend, log) {
  finished.reserve(options.operations_max);
  for (std::uint32_t i = 0; i < options.operations_max; ++i) {
    states[i].queue = this;
    free.push_back(states[i]);
  }
}

// ---- the callers' side ------------------------------------------------------------------------

void IoQueue::Impl::throw_if_broken() const {
  if (!breakdown) return;
  throw_failure(breakdown->kind, breakdown->code,
                "this queue accepts nothing more: " + breakdown->message);
}

std::optional<IoTicket> IoQueue::Impl::accept(std::unique_lock<std::mutex>& lock,
                                              const Operation& operation) {
  throw_if_broken();
  if (free.empty()) return std::nullopt;
  OperationState& state = free.pop_front();
  state.operation = operation;
  submitted.push_back(state);
  ++unfinished;
  const bool wake = std::exchange(parked, false);
  IoTicket ticket(&state, state.phase.load(std::memory_order_relaxed));
  lock.unlock();
  if (wake) backend->wake();
  return ticket;
}

void IoQueue::Impl::reclaim(OperationState& state) {
  {
    const std::lock_guard lock(mutex);
    state.phase.fetch_add(1);
    free.push_back(state);
  }
  room.notify_one();
}

// ---- the driver's side ------------------------------------------------------------------------

void IoQueue::Impl::run() {
  while (exchange_with_callers()) {
    notify_finished();
    driver.turn();
  }
  notify_finished();
}

/// Publishes what has finished and takes what was submitted. False when there is nothing left to
/// do and never will be.
bool IoQueue::Impl::exchange_with_callers() {
  const std::lock_guard lock(mutex);
  driver.take_finished(finished);
  publish_finished();
  while (!submitted.empty()) driver.add(submitted.pop_front());
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
    // Sequentially consistent: the notification after it must not overtake it and miss a waiter.
    if (state->failed()) {
      state->phase.fetch_add(1);
    } else {
      state->phase.fetch_add(2);
      free.push_back(*state);
    }
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
    : impl_(std::make_shared<Impl>(checked(options), choose_backend(options, probe_directory, log),
                                   log)) {
  impl_->thread = start_service_thread("strata-io", [impl = impl_] { impl->run(); });
}

IoQueue::IoQueue(const IoQueueOptions& options, std::unique_ptr<Backend> backend, Logger& log) {
  ChosenBackend chosen{std::move(backend), {}};
  chosen.description = chosen.backend->name();
  impl_ = std::make_shared<Impl>(checked(options), std::move(chosen), log);
  impl_->thread = start_service_thread("strata-io", [impl = impl_] { impl->run(); });
}

IoQueue::~IoQueue() {
  std::unique_lock lock(impl_->mutex);
  impl_->stopping = true;
  lock.unlock();
  impl_->backend->wake();
  lock.lock();
  impl_->stopped.wait(lock, [&] { return impl_->has_stopped; });
  lock.unlock();
  // The kernel does not let a thread end while a request of its own is stuck: then it is left
  // behind, with its share of the state.
  if (impl_->has_lost_requests) {
    impl_->thread.detach();
  } else {
    impl_->thread.join();
  }
}

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
  throw UsageError("all " + std::to_string(impl_->options.operations_max) +
                   " places of the queue are held by failed operations; wait on their tickets");
}

IoStatistics IoQueue::statistics() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->statistics;
}

const IoQueueOptions& IoQueue::options() const noexcept { return impl_->options; }

const std::string& IoQueue::description() const noexcept { return impl_->description; }

// ---- tickets ----------------------------------------------------------------------------------

IoTicket::IoTicket(IoTicket&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)), generation_(other.generation_) {}

IoTicket& IoTicket::operator=(IoTicket&& other) noexcept {
  if (this == &other) return *this;
  settle();
  state_ = std::exchange(other.state_, nullptr);
  generation_ = other.generation_;
  return *this;
}

IoTicket::~IoTicket() { settle(); }

bool IoTicket::done() const noexcept {
  return state_ == nullptr || state_->phase.load(std::memory_order_acquire) != generation_;
}

void IoTicket::wait() {
  if (state_ == nullptr) throw UsageError("an I/O ticket was waited for twice");
  state_->phase.wait(generation_);
  if (state_->phase.load(std::memory_order_acquire) != generation_ + 1) {
    state_ = nullptr;
    return;
  }
  const TransferFailure failure = state_->failure;
  const std::string message = describe_failure(state_->operation, failure);
  settle();
  throw_failure(failure.kind, failure.code, message);
}

/// Waits for the outcome and forgets it.
void IoTicket::settle() noexcept {
  if (state_ == nullptr) return;
  state_->phase.wait(generation_);
  OperationState& state = *std::exchange(state_, nullptr);
  if (state.phase.load(std::memory_order_acquire) == generation_ + 1) state.queue->reclaim(state);
}

}  // namespace strata::aio
