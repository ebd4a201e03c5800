#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "strata/base/clock.h"
#include "strata/base/hop.h"
#include "strata/base/timeline.h"

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

  /// Records each span that ends from now on in `timeline` too, as long as that is not null (which
  /// it is at first). A timeline that was taken away may still be written to by spans that are
  /// ending on other threads: keep it until those are idle.
  void record_into(Timeline* timeline) noexcept { timeline_.store(timeline); }
  /// Null: nothing is recorded.
  [[nodiscard]] Timeline* timeline() const noexcept {
    return timeline_.load(std::memory_order_acquire);
  }

 private:
  struct Cell {
    std::atomic<std::uint64_t> bytes{0}, calls{0}, busy_ns{0}, wait_ns{0};
  };
  const Clock& clock_;
  std::array<Cell, kHopCount> cells_;
  std::atomic<Timeline*> timeline_{nullptr};
};

/// Adds the time between construction and destruction, by the counters' clock, to `hop`'s waiting
/// (or busy) time, and records it as a span where spans are recorded.
class ScopedTimer {
 public:
  enum class Kind { kBusy, kWait };
  /// `name` (of the unit) and `bytes` are for the span; the name outlives the timer.
  ScopedTimer(Counters& counters, Hop hop, Kind kind, std::string_view name = {},
              std::uint64_t bytes = 0)
      : ScopedTimer(&counters, hop, kind, name, bytes) {}
  /// Times nothing where `counters` is null.
  ScopedTimer(Counters* counters, Hop hop, Kind kind, std::string_view name = {},
              std::uint64_t bytes = 0)
      : counters_(counters),
        hop_(hop),
        kind_(kind),
        name_(name),
        bytes_(bytes),
        start_(counters != nullptr ? counters->clock().now() : Time{}) {}
  ~ScopedTimer();
  /// Memory that the span takes its bytes from, at most kReadsMax times, and leaves them in.
  void reads(MemoryRange range) noexcept;
  void writes(MemoryRange range) noexcept { writes_ = range; }
  static constexpr std::size_t kReadsMax = 5;
  ScopedTimer(const ScopedTimer&) = delete;
  ScopedTimer& operator=(const ScopedTimer&) = delete;

 private:
  Counters* counters_;
  Hop hop_;
  Kind kind_;
  std::string_view name_;
  std::uint64_t bytes_;
  Time start_;
  std::array<MemoryRange, kReadsMax> reads_;
  std::size_t read_count_ = 0;
  MemoryRange writes_;
};

}  // namespace strata
