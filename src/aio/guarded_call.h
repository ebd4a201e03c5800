#pragma once

#include <atomic>

#include "strata/base/clock.h"

namespace strata::aio {

/// A call that may not come back, made by one thread and watched by another. While it is open, the
/// watcher may take over all that the thread owns. After that the thread touches nothing of it any
/// more, however the call ends.
class GuardedCall {
 public:
  /// The calling thread: the call begins, and should be back by `deadline`.
  void open(Time deadline) noexcept { state_.store(count_of(deadline)); }
  /// The calling thread: the call is back. False when the watcher has taken over.
  [[nodiscard]] bool close() noexcept {
    Count opened = state_.load();
    return opened != kTaken && state_.compare_exchange_strong(opened, kClosed);
  }

  /// When the open call should be back; `Time::max()` while none is open.
  [[nodiscard]] Time deadline() const noexcept { return deadline_of(state_.load()); }
  /// The watcher: takes over from a call that is late. False when there is none.
  [[nodiscard]] bool take_over(Time now) noexcept {
    Count opened = state_.load();
    // Another call may have been opened meanwhile: then its deadline is another one.
    return now >= deadline_of(opened) && state_.compare_exchange_strong(opened, kTaken);
  }
  [[nodiscard]] bool is_taken() const noexcept { return state_.load() == kTaken; }

 private:
  using Count = Time::rep;
  static constexpr Count kClosed = -1;
  static constexpr Count kTaken = -2;
  static Count count_of(Time time) noexcept { return time.time_since_epoch().count(); }
  static Time deadline_of(Count state) noexcept {
    return state == kClosed || state == kTaken ? Time::max() : Time(Time::duration(state));
  }

  std::atomic<Count> state_{kClosed};  // or the deadline of the open call
};

}  // namespace strata::aio
