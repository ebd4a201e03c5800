#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

/// \file
/// The recorded order of units, from which prefetch and eviction are decided. No LibTorch, no I/O.

namespace strata::zero3 {

using UnitId = std::uint32_t;

enum class Pass : std::uint8_t { kForward, kBackward };

/// One entry of a unit: which, and in which direction.
struct Entry {
  UnitId unit;
  Pass pass;
  bool operator==(const Entry&) const = default;
};

/// Learns the cycle of entries that a micro-batch makes (forward through the units, backward
/// through them) and says what comes next.
///
/// The first cycle is recorded as it happens, up to `end_cycle`. Later ones are followed: an entry
/// that the record does not have at this place is looked up further on, going round, and the
/// position moves there; one that it does not have at all is inserted. So a different order is
/// followed, never an error: it costs prefetches, not correctness.
class OrderTrace {
 public:
  /// Tells that `entry` happens now.
  void enter(Entry entry);

  /// Tells that a micro-batch is over: the next entry is expected to be the cycle's first.
  void end_cycle();

  /// False during the first cycle, about which nothing can be said yet.
  [[nodiscard]] bool recorded() const noexcept { return recorded_; }

  /// The units entered next (none while recording), nearest first, each named once, at most
  /// `count`. `forward_only` leaves backward out (evaluation); `stop_at_end` ends with the recorded
  /// cycle instead of going round (weights change before the next one).
  [[nodiscard]] std::vector<UnitId> upcoming(std::size_t count, bool forward_only,
                                             bool stop_at_end) const;

  /// Entries until `unit` is used again, going round; nullopt when the record does not hold it.
  [[nodiscard]] std::optional<std::size_t> next_use(UnitId unit) const;

  [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }
  /// Index of the entry expected next.
  [[nodiscard]] std::size_t position() const noexcept { return position_; }

 private:
  std::vector<Entry> entries_;
  std::size_t position_ = 0;
  bool recorded_ = false;
};

}  // namespace strata::zero3
