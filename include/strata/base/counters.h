#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "strata/base/clock.h"
#include "strata/base/hop.h"

/// \file
/// The bytes that each hop moved, and the time somebody waited for it. One `Counters` belongs to
/// one engine and is passed by reference to everything that moves bytes for it.

namespace strata {

/// A reading of one hop's counters since the engine was made.
struct HopReading {
  std::uint64_t bytes = 0;    ///< bytes moved (fetch: published to the caller, without padding)
  std::uint64_t calls = 0;    ///< transfers finished
  std::uint64_t busy_ns = 0;  ///< time spent doing the hop's own work on the calling thread
  std::uint64_t wait_ns = 0;  ///< time the engine's thread stood still for this hop
};

/// A reading of all hops. Subtract two to get an interval.
struct CounterReading {
  std::array<HopReading, kHopCount> hops{};
  [[nodiscard]] const HopReading& operator[](Hop hop) const {
    return hops[static_cast<std::size_t>(hop)];
  }
  [[nodiscard]] CounterReading operator-(const CounterReading& earlier) const;
};

/// Thread-safe counters; every method may be called from any thread at any time.
class Counters {
 public:
  /// `clock` outlives the counters; the times of whoever counts here are read from it.
  explicit Counters(const Clock& clock = kSystemClock) : clock_(clock) {}

  [[nodiscard]] const Clock& clock() const noexcept { return clock_; }
  void add_moved(Hop hop, std::uint64_t bytes) noexcept;
  void add_busy(Hop hop, std::chrono::nanoseconds time) noexcept;
  void add_wait(Hop hop, std::chrono::nanoseconds time) noexcept;
  [[nodiscard]] CounterReading read() const noexcept;

 private:
  struct Cell {
    std::atomic<std::uint64_t> bytes{0}, calls{0}, busy_ns{0}, wait_ns{0};
  };
  const Clock& clock_;
  std::array<Cell, kHopCount> cells_;
};

/// Adds the time between construction and destruction, by the counters' clock, to `hop`'s waiting
/// (or busy) time.
class ScopedTimer {
 public:
  enum class Kind { kBusy, kWait };
  ScopedTimer(Counters& counters, Hop hop, Kind kind)
      : counters_(counters), hop_(hop), kind_(kind), start_(counters.clock().now()) {}
  ~ScopedTimer();
  ScopedTimer(const ScopedTimer&) = delete;
  ScopedTimer& operator=(const ScopedTimer&) = delete;

 private:
  Counters& counters_;
  Hop hop_;
  Kind kind_;
  Time start_;
};

}  // namespace strata
