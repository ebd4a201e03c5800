#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "aio/service_thread.h"
#include "strata/aio/backend.h"
#include "strata/aio/numa.h"
#include "strata/base/error.h"

namespace strata::aio {
namespace {

/// A first-in, first-out queue in memory taken once.
template <typename T>
class BoundedFifo {
 public:
  explicit BoundedFifo(std::size_t capacity) : items_(capacity) {}
  [[nodiscard]] bool empty() const { return size_ == 0; }
  void push(const T& item) {
    STRATA_CHECK(size_ < items_.size(), "capacity=" + std::to_string(items_.size()));
    items_[(head_ + size_++) % items_.size()] = item;
  }
  T pop() {
    STRATA_CHECK(size_ > 0, "");
    const T item = items_[head_];
    head_ = (head_ + 1) % items_.size();
    --size_;
    return item;
  }

 private:
  std::vector<T> items_;
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

/// The state that the driver and the workers share. Each worker holds a reference, so that one that
/// is stuck in the kernel for ever can be left behind.
struct Exchange {
  explicit Exchange(std::uint32_t depth) : requests(depth), completions(depth) {}

  std::mutex mutex;
  std::condition_variable work;      // wakes workers: requests, or stopping
  std::condition_variable finished;  // wakes the driver: completions, or woken
  BoundedFifo<Request> requests;
  BoundedFifo<Completion> completions;
  bool woken = false;
  bool stopping = false;
};

Completion transfer(const Request& request) {
  const auto offset = static_cast<off_t>(request.offset);
  const ssize_t moved = request.kind == OpKind::kRead
                            ? ::pread(request.fd, request.data, request.bytes, offset)
                            : ::pwrite(request.fd, request.data, request.bytes, offset);
  return {.tag = request.tag, .result = moved >= 0 ? moved : -errno};
}

void work_until_stopped(Exchange& exchange) {
  std::unique_lock lock(exchange.mutex);
  while (true) {
    exchange.work.wait(lock, [&] { return exchange.stopping || !exchange.requests.empty(); });
    if (exchange.stopping) return;
    const Request request = exchange.requests.pop();
    lock.unlock();
    const Completion completion = transfer(request);
    lock.lock();
    exchange.completions.push(completion);
    exchange.finished.notify_one();
  }
}

class ThreadsBackend final : public Backend {
 public:
  ThreadsBackend(std::uint32_t depth, std::uint32_t threads, int numa_node);
  ~ThreadsBackend() override { stop(); }
  ThreadsBackend(const ThreadsBackend&) = delete;
  ThreadsBackend& operator=(const ThreadsBackend&) = delete;

  std::string_view name() const noexcept override { return "threads"; }
  std::uint32_t capacity() const noexcept override { return depth_; }
  std::size_t enqueue(std::span<const Request> requests) override;
  std::size_t reap(std::span<Completion> completions, std::chrono::nanoseconds timeout) override;
  void drop_unstarted() noexcept override;
  void wake() noexcept override;

 private:
  void stop();

  const std::uint32_t depth_;
  std::uint32_t in_flight_ = 0;  // accepted and not yet handed back
  std::shared_ptr<Exchange> exchange_;
  std::vector<std::thread> workers_;
};

ThreadsBackend::ThreadsBackend(std::uint32_t depth, std::uint32_t threads, int numa_node)
    : depth_(depth), exchange_(std::make_shared<Exchange>(depth)) {
  workers_.reserve(threads);
  try {
    for (std::uint32_t i = 0; i < threads; ++i) {
      workers_.push_back(
          start_service_thread("strata-io-" + std::to_string(i), [exchange = exchange_, numa_node] {
            run_on_numa_node(numa_node);  // the queue's thread meets and reports a refusal too
            work_until_stopped(*exchange);
          }));
    }
  } catch (const IoError&) {
    stop();
    throw;
  }
}

void ThreadsBackend::stop() {
  {
    const std::lock_guard lock(exchange_->mutex);
    exchange_->stopping = true;
  }
  exchange_->work.notify_all();
  for (std::thread& worker : workers_) {
    // With transfers outstanding, a worker may never come back from the kernel.
    if (in_flight_ == 0) {
      worker.join();
    } else {
      worker.detach();
    }
  }
}

std::size_t ThreadsBackend::enqueue(std::span<const Request> requests) {
  const auto accepted = std::min<std::size_t>(requests.size(), depth_ - in_flight_);
  if (accepted == 0) return 0;
  {
    const std::lock_guard lock(exchange_->mutex);
    for (const Request& request : requests.first(accepted)) exchange_->requests.push(request);
  }
  if (accepted == 1) {
    exchange_->work.notify_one();
  } else {
    exchange_->work.notify_all();
  }
  in_flight_ += static_cast<std::uint32_t>(accepted);
  return accepted;
}

std::size_t ThreadsBackend::reap(std::span<Completion> completions,
                                 std::chrono::nanoseconds timeout) {
  std::unique_lock lock(exchange_->mutex);
  exchange_->finished.wait_for(lock, timeout,
                               [&] { return exchange_->woken || !exchange_->completions.empty(); });
  exchange_->woken = false;
  std::size_t stored = 0;
  while (stored < completions.size() && !exchange_->completions.empty()) {
    completions[stored++] = exchange_->completions.pop();
  }
  in_flight_ -= static_cast<std::uint32_t>(stored);
  return stored;
}

void ThreadsBackend::drop_unstarted() noexcept {
  const std::lock_guard lock(exchange_->mutex);
  while (!exchange_->requests.empty()) {
    const Request request = exchange_->requests.pop();
    exchange_->completions.push({.tag = request.tag, .result = -ECANCELED});
  }
}

void ThreadsBackend::wake() noexcept {
  {
    const std::lock_guard lock(exchange_->mutex);
    exchange_->woken = true;
  }
  exchange_->finished.notify_one();
}

}  // namespace

std::unique_ptr<Backend> make_threads_backend(std::uint32_t depth, std::uint32_t threads,
                                              int numa_node) {
  return std::make_unique<ThreadsBackend>(depth, threads, numa_node);
}

}  // namespace strata::aio
