#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "strata/tiering/device.h"

namespace strata::support {

/// A stretch of addresses that an operation reads or writes, on the device or on the host.
struct AddressRange {
  std::uintptr_t address = 0;
  std::uint64_t bytes = 0;
};

[[nodiscard]] inline AddressRange range_of(tiering::DeviceSpan memory) {
  return {memory.address(), memory.bytes()};
}
[[nodiscard]] inline AddressRange range_of(std::span<const std::byte> memory) {
  return {reinterpret_cast<std::uintptr_t>(memory.data()), memory.size()};
}

/// Two operations that touch the same bytes, at least one of them writing, in no order.
struct Race {
  std::string first;   ///< the operation that was put on its stream first
  std::string second;  ///< the other one
  std::string text;    ///< a sentence: both operations, their streams, the bytes
};

/// Who does things in an order of its own: the host, and each stream.
using Timeline = std::size_t;
inline constexpr Timeline kHostTimeline = 0;
inline constexpr std::size_t kTimelines = 1 + tiering::kStreamRoles;
[[nodiscard]] constexpr Timeline timeline_of(tiering::StreamRole stream) {
  return 1 + static_cast<Timeline>(stream);
}

/// For each timeline, the number of its operations that come before a point.
using VectorClock = std::array<std::uint64_t, kTimelines>;

/// Finds races by order, not by time: a vector clock for each timeline says which operations come
/// before its next one, and every range of bytes knows who touched it. Told the same calls in the
/// same order, it reports the same races, however the streams happened to run. Every pair is
/// reported, once, when its second operation is told. Not thread-safe.
///
/// An operation on a stream comes after all that the host did before putting it there. All other
/// order comes from `join`.
class RaceClock {
 public:
  /// Tells of the next operation of a timeline and the bytes that it touches.
  void operate(Timeline timeline, const std::string& name, std::span<const AddressRange> reads,
               std::span<const AddressRange> writes);

  /// The point behind the last operation of a timeline: what an event records.
  [[nodiscard]] VectorClock now(Timeline timeline) const { return clocks_[timeline]; }
  /// Whether all that comes before `point` comes before the next operation of the timeline.
  [[nodiscard]] bool is_behind(Timeline timeline, const VectorClock& point) const;
  /// Puts the next operation of a timeline behind `point`: what a wait does.
  void join(Timeline timeline, const VectorClock& point);

  /// What reports call the bytes of `range`.
  void call(AddressRange range, const std::string& name);

  [[nodiscard]] const std::vector<Race>& races() const noexcept { return races_; }

 private:
  struct Access {
    Timeline timeline;
    std::uint64_t time;
    bool is_write;
    std::shared_ptr<const std::string> operation;
  };
  /// Bytes with one history; the key in `cells_` is where they start.
  struct Cell {
    std::uintptr_t end;
    std::vector<Access> accesses;
  };
  struct Name {
    std::uint64_t bytes;
    std::string name;
  };
  using Cells = std::map<std::uintptr_t, Cell>;

  void touch(AddressRange range, const Access& access);
  void compare(const Cells::value_type& cell, const Access& access);
  void split(std::uintptr_t address);
  void forget_what_is_over(Cell& cell);
  void sweep();
  [[nodiscard]] std::string describe(std::uintptr_t address, std::uint64_t bytes) const;

  std::array<VectorClock, kTimelines> clocks_{};
  Cells cells_;
  std::size_t sweep_beyond_ = 1024;  // cells
  std::map<std::uintptr_t, Name> names_;
  std::vector<Race> races_;
  std::vector<const std::string*> reported_;  // partners of the operation that is being told
};

}  // namespace strata::support
