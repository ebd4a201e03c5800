#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "strata/aio/operation.h"
#include "strata/base/clock.h"

namespace strata::aio {

/// The work of a path so far, by OpKind.
struct PathTotals {
  std::array<std::uint64_t, 2> bytes{};
  std::array<std::chrono::nanoseconds, 2> busy{};  ///< time with a request of the kind

  [[nodiscard]] std::uint64_t bytes_of(OpKind kind) const { return bytes[index(kind)]; }
  [[nodiscard]] std::chrono::nanoseconds busy_of(OpKind kind) const { return busy[index(kind)]; }
  [[nodiscard]] static constexpr std::size_t index(OpKind kind) {
    return static_cast<std::size_t>(kind);
  }
};

/// The bandwidth of one path, in bytes per second; 0: not known.
struct PathBandwidth {
  double read = 0;
  double write = 0;

  /// Both directions in the proportions of a training step, 14 bytes read to 12 written, one after
  /// the other; 0 unless both are known.
  [[nodiscard]] double combined() const noexcept;
};

/// The bandwidth of a path with these totals.
[[nodiscard]] PathBandwidth bandwidth_of(const PathTotals& totals) noexcept;

/// Counts the bytes of one path and the time in which it was busy with them; the quotient is its
/// bandwidth, however idle it was in between. An operation that names a meter (`Operation::meter`)
/// has all its requests counted. Thread: `begin` and `end` are called by the queue's thread;
/// `totals` from any thread. Outlives every operation that names it.
class PathMeter {
 public:
  /// Notes that the backend has accepted a request.
  void begin(OpKind kind, Time now) noexcept;
  /// Notes that a request has come back, having moved `bytes`.
  void end(OpKind kind, std::uint64_t bytes, Time now) noexcept;

  [[nodiscard]] PathTotals totals() const noexcept;

 private:
  struct Direction {
    std::uint32_t in_flight = 0;  // used by the queue's thread only
    Time busy_since;              // used by the queue's thread only
    std::atomic<std::uint64_t> bytes{0};
    std::atomic<std::int64_t> busy_ns{0};
  };
  std::array<Direction, 2> directions_;
};

}  // namespace strata::aio
