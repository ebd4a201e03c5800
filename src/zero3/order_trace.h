#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "zero3/entry.h"

/// \file
/// The recorded order of units, from which the schedule expects the next ones. No LibTorch, no
/// I/O; a value that can be copied.

namespace strata::zero3 {

/// Learns the cycle of entries that a micro-batch makes (forward through the units, backward
/// through them) and says what comes next.
///
/// The first cycle is recorded as it happens. Later ones are followed: an entry is looked up from
/// the place reached last, going round, among those that have not come yet; the place moves there.
/// Skipped entries can still come, and the record takes the newest order when a cycle ends. So a
/// different order is never an error: it costs prefetches, not correctness.
///
/// Not every entry comes in every cycle (an expert, a layer that is dropped). Each has a counter of
/// two bits, as a branch predictor has (J. E. Smith, "A Study of Branch Prediction Strategies",
/// 1981, strategy 7): it goes up when the entry comes and down when a cycle ends without it, and
/// the entry is expected from two on. The backward of a unit is expected when its forward came in
/// the same cycle. An entry that stays away for `kForgottenAfter` cycles is forgotten.
///
/// A training step looks from the place that it reached; an evaluation has a place of its own,
/// knows forward entries alone and changes nothing of the record.
class OrderTrace {
 public:
  static constexpr std::uint32_t kForgottenAfter = 64;
  /// The next use of a unit of which nothing is known.
  static constexpr std::uint64_t kNever = UINT64_MAX;

  explicit OrderTrace(std::size_t units = 0) : pending_forwards_(units) {}

  /// Tells that `entry` happens now. An evaluation's is ignored during the first cycle.
  void enter(Entry entry, View view);

  /// Tells that a micro-batch is over: the next entry is expected to be the cycle's first. One that
  /// is not `complete` (it failed, or was skipped) says nothing of what did not come.
  void end_cycle(bool complete);

  /// Whether anything is known: not during the first cycle.
  [[nodiscard]] bool recorded() const noexcept { return !record_.empty(); }
  /// Number of entries in the record.
  [[nodiscard]] std::size_t size() const noexcept { return record_.size(); }
  /// The place in the record that is reached: the index of the entry after the last one.
  [[nodiscard]] std::uint64_t position(View view) const noexcept {
    return view == View::kTraining ? position_ : evaluation_position_;
  }

  /// The unit that is expected at `place`, counted from the beginning of this cycle: places from
  /// `size()` on are the next one's. Nullopt when nobody is expected there.
  [[nodiscard]] std::optional<UnitId> expected_at(std::uint64_t place, View view) const;

  /// The place of the next expected use of `unit`, at `position()` or after it. An entry that is
  /// recorded but not expected counts as a cycle later than it would come; kNever without any.
  [[nodiscard]] std::uint64_t next_use(UnitId unit, View view) const;

 private:
  static constexpr std::uint8_t kExpected = 2;  // an entry is expected from this count on
  static constexpr std::uint8_t kSurest = 3;

  struct Recorded {
    Entry entry;
    std::uint8_t count = kExpected;
    std::uint32_t absences = 0;  // cycles in a row without it
    std::uint64_t round = 0;     // the last round in which it came
    std::uint64_t cycle = 0;     // the last cycle in which it came
  };

  [[nodiscard]] std::span<const std::uint32_t> places_of(Entry entry) const;
  [[nodiscard]] std::optional<std::uint32_t> find(Entry entry) const;
  [[nodiscard]] bool is_expected(const Recorded& recorded, bool in_this_cycle, View view) const;
  void count_absences();
  void take_newest_order();
  void index_places();

  std::vector<Recorded> record_;
  std::vector<std::uint32_t> places_;        // places of all entries, grouped by unit and pass
  std::vector<std::uint32_t> places_begin_;  // first place of each group
  std::vector<Recorded> unrecorded_;         // entries of this cycle that the record lacks
  /// The entries of this cycle, each once, in order: an index into the record, or behind its end
  /// into `unrecorded_`.
  std::vector<std::uint32_t> sequence_;
  std::vector<std::uint32_t> pending_forwards_;  // each unit's in this cycle, less its backwards
  std::uint64_t position_ = 0;
  std::uint64_t evaluation_position_ = 0;
  std::uint64_t round_ = 1;  // a cycle has several when its entries come again
  std::uint64_t cycle_ = 1;
};

}  // namespace strata::zero3
