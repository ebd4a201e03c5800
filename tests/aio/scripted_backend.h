#pragma once

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "strata/aio/backend.h"
#include "strata/base/error.h"
#include "support/disk_fault.h"

namespace strata::aio {

/// A test's handle on a ScriptedBackend, while a queue owns the backend.
class Script {
 public:
  /// Faults of the next requests, in the order in which they are accepted.
  std::deque<Fault> faults;
  /// And with those beyond.
  Fault otherwise = Fault::none();
  std::uint32_t capacity = 64;
  std::size_t accepted_per_call = 64;
  int refused_calls = 0;          ///< calls of enqueue that accept nothing, to begin with
  bool throws_from_reap = false;  ///< the engine breaks when first asked for completions
  bool may_wait_in_enqueue = false;
  std::string refusal;  ///< the answer to every registration

  /// Completes the requests that are stuck, in full or their first `bytes_max` bytes.
  void release_held(std::size_t bytes_max = ~std::size_t{0}) {
    {
      const std::lock_guard lock(mutex_);
      for (const Request& request : held_) {
        complete(request, bytes_max < request.bytes
                              ? Fault::shortened_to(static_cast<std::int64_t>(bytes_max))
                              : Fault::none());
      }
      held_.clear();
    }
    changed_.notify_all();
  }

  /// Ends the refusal of requests.
  void accept_again() {
    const std::lock_guard lock(mutex_);
    refused_calls = 0;
  }

  /// Makes the engine throw when it is handed a request, from now on.
  void break_enqueue() {
    const std::lock_guard lock(mutex_);
    enqueue_broken_ = true;
  }
  /// Makes the engine throw when it is asked for completions, from now on.
  void break_reap() {
    {
      const std::lock_guard lock(mutex_);
      throws_from_reap = true;
      woken_ = true;
    }
    changed_.notify_all();
  }
  /// Holds up threads that hand in requests from now on, until they may `move_on`.
  void hold_up() {
    const std::lock_guard lock(mutex_);
    is_held_up_ = true;
  }
  void wait_for_somebody_held_up() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return held_up_ > 0; });
  }
  /// Returns when nobody is held up any more.
  void move_on() {
    std::unique_lock lock(mutex_);
    is_held_up_ = false;
    changed_.notify_all();
    changed_.wait(lock, [&] { return held_up_ == 0; });
  }
  /// Calls of `drop_unstarted`.
  [[nodiscard]] int drops() const {
    const std::lock_guard lock(mutex_);
    return drops_;
  }

  /// Waits until `count` requests have been accepted in all.
  void wait_for_accepted(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return requests_.size() >= count; });
  }

  /// Every request accepted so far.
  [[nodiscard]] std::vector<Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  /// Registrations and their ends so far: "+memory", "-memory", "+file", "-file".
  [[nodiscard]] std::vector<std::string> registrations() const {
    const std::lock_guard lock(mutex_);
    return registrations_;
  }
  /// Threads that called `enqueue`, `reap` or registered something.
  [[nodiscard]] std::size_t threads_seen() const {
    const std::lock_guard lock(mutex_);
    return threads_.size();
  }
  [[nodiscard]] std::size_t in_flight_max() const {
    const std::lock_guard lock(mutex_);
    return in_flight_max_;
  }

 private:
  friend class ScriptedBackend;

  void complete(const Request& request, Fault fault) {
    completions_.push_back({request.tag, files_.serve(request, fault)});
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  FaultyFiles files_;
  std::deque<Completion> completions_;
  std::vector<Request> held_;
  std::vector<Request> requests_;
  std::vector<std::string> registrations_;
  std::set<std::thread::id> threads_;
  std::size_t in_flight_ = 0;
  std::size_t in_flight_max_ = 0;
  bool woken_ = false;
  bool enqueue_broken_ = false;
  bool is_held_up_ = false;
  int held_up_ = 0;
  int drops_ = 0;
};

/// An I/O engine that a test drives step by step: what its disk does wrong is said in the words of
/// disk_fault.h, what it does wrong itself (refuses, breaks, is held up) by the script.
class ScriptedBackend final : public Backend {
 public:
  explicit ScriptedBackend(Script& script) : script_(script) {}

  std::string_view name() const noexcept override { return "scripted"; }
  std::uint32_t capacity() const noexcept override { return script_.capacity; }

  std::size_t enqueue(std::span<const Request> requests) override {
    std::unique_lock lock(script_.mutex_);
    script_.threads_.insert(std::this_thread::get_id());
    ++script_.held_up_;
    script_.changed_.notify_all();
    script_.changed_.wait(lock, [&] { return !script_.is_held_up_; });
    --script_.held_up_;
    if (script_.enqueue_broken_ && !requests.empty()) throw IoError("the ring is shut", EPERM);
    if (script_.refused_calls-- > 0) return 0;
    const std::size_t accepted = std::min(requests.size(), script_.accepted_per_call);
    for (const Request& request : requests.first(accepted)) carry_out(request);
    script_.in_flight_ += accepted;
    script_.in_flight_max_ = std::max(script_.in_flight_max_, script_.in_flight_);
    script_.changed_.notify_all();
    return accepted;
  }

  bool may_wait_in_enqueue() const noexcept override { return script_.may_wait_in_enqueue; }

  std::size_t reap(std::span<Completion> completions, std::chrono::nanoseconds timeout) override {
    std::unique_lock lock(script_.mutex_);
    script_.threads_.insert(std::this_thread::get_id());
    if (script_.throws_from_reap) throw IoError("the ring is gone", EBADF);
    script_.changed_.wait_for(lock, timeout,
                              [&] { return script_.woken_ || !script_.completions_.empty(); });
    script_.woken_ = false;
    std::size_t stored = 0;
    for (; stored < completions.size() && !script_.completions_.empty(); ++stored) {
      completions[stored] = script_.completions_.front();
      script_.completions_.pop_front();
    }
    script_.in_flight_ -= stored;
    return stored;
  }

  void drop_unstarted() noexcept override {
    const std::lock_guard lock(script_.mutex_);
    ++script_.drops_;
  }

  void wake() noexcept override {
    {
      const std::lock_guard lock(script_.mutex_);
      script_.woken_ = true;
    }
    script_.changed_.notify_all();
  }

  std::string register_memory(std::span<std::byte> /*memory*/) override { return note("+memory"); }
  void forget_memory(std::span<std::byte> /*memory*/) noexcept override { note("-memory"); }
  std::string register_file(int /*fd*/) override { return note("+file"); }
  void forget_file(int /*fd*/) noexcept override { note("-file"); }

 private:
  std::string note(const char* event) {
    const std::lock_guard lock(script_.mutex_);
    script_.threads_.insert(std::this_thread::get_id());
    script_.registrations_.emplace_back(event);
    return script_.refusal;
  }

  void carry_out(const Request& request) {
    Fault fault = script_.otherwise;
    if (!script_.faults.empty()) {
      fault = script_.faults.front();
      script_.faults.pop_front();
    }
    script_.requests_.push_back(request);
    if (fault.kind == Fault::Kind::kStuck) {
      script_.held_.push_back(request);
    } else {
      script_.complete(request, fault);
    }
  }

  Script& script_;
};

}  // namespace strata::aio
