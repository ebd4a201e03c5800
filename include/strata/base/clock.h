#pragma once

#include <atomic>
#include <chrono>

namespace strata {

/// A point in time, as every clock here tells it. Only differences mean something.
using Time = std::chrono::steady_clock::time_point;

/// Tells the time. Code that measures a duration or keeps a deadline is handed a clock and asks no
/// other, so that a test can let hours pass in no time. Never goes backwards. Thread: any.
class Clock {
 public:
  [[nodiscard]] virtual Time now() const noexcept = 0;

 protected:
  ~Clock() = default;  // a clock is lent, never owned through this interface
};

/// The system's steady clock. Has no state: all of them are the same.
class SystemClock final : public Clock {
 public:
  [[nodiscard]] Time now() const noexcept override { return std::chrono::steady_clock::now(); }
};

/// The clock where nobody handed in another one.
inline constexpr SystemClock kSystemClock{};

/// Seconds on the system's clock since `start`.
[[nodiscard]] inline double seconds_since(Time start) {
  return std::chrono::duration<double>(kSystemClock.now() - start).count();
}

/// A clock that stands still until it is told to go on, for simulations and tests.
class ManualClock final : public Clock {
 public:
  /// Begins one second after the epoch: `Time{}` stays free for "never".
  [[nodiscard]] Time now() const noexcept override {
    return Time(std::chrono::nanoseconds(nanoseconds_.load()));
  }

  /// `by` is not negative.
  void advance(std::chrono::nanoseconds by) noexcept { nanoseconds_.fetch_add(by.count()); }
  /// A time that is over already changes nothing.
  void advance_to(Time time) noexcept {
    const Count wanted = std::chrono::nanoseconds(time.time_since_epoch()).count();
    Count now = nanoseconds_.load();
    while (now < wanted && !nanoseconds_.compare_exchange_weak(now, wanted)) {
    }
  }

 private:
  using Count = std::chrono::nanoseconds::rep;
  std::atomic<Count> nanoseconds_{1'000'000'000};
};

}  // namespace strata
