#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "strata/tiering/region_map.h"

/// \file
/// The place of a unit's weights, seen from the device. Written by the schedule alone.

namespace strata::zero3 {

enum class Residency : std::uint8_t { kSharded, kFetching, kUnsharded, kCached };

struct ResidencyMeaning {
  Residency residency;
  std::string_view name;
  bool is_readable;     ///< the parameters have bytes
  bool may_be_evicted;  ///< its place on the device can be given to another unit
  std::string_view meaning;
};

/// The table of all places. A used unit goes down it row by row, and back to the first row when it
/// is evicted; a unit that is used again before that goes from cached to unsharded.
inline constexpr std::array<ResidencyMeaning, 4> kResidencies = {{
    {Residency::kSharded, "sharded", false, false, "only at home"},
    {Residency::kFetching, "fetching", false, true,
     "at home, and on the way: to its region, or to staging slots while it has none"},
    {Residency::kUnsharded, "unsharded", true, false, "on the device, in use: its region stays"},
    {Residency::kCached, "cached", true, true,
     "on the device, not in use: valid until evicted or until its weights change"},
}};

[[nodiscard]] constexpr const ResidencyMeaning& meaning_of(Residency residency) {
  return kResidencies[static_cast<std::size_t>(residency)];
}

/// The state of one unit.
struct UnitResidency {
  Residency residency = Residency::kSharded;
  /// Its region of the device. None: it is sharded, or being staged, or its weights rest there.
  std::optional<tiering::Region> region{};
  std::uint32_t slots = 0;    ///< slots that it holds while fetched without a region
  std::uint32_t uses = 0;     ///< entries that were not left yet
  std::uint64_t weights = 0;  ///< version at home: how often they have changed there, at rest

  /// Stands for no version: the device has no copy, or one that was written to or came in part.
  static constexpr std::uint64_t kNoVersion = UINT64_MAX;
  std::uint64_t held = kNoVersion;   ///< version on the device, or on its way there
  std::uint64_t last_use = 0;        ///< counted in entries of units
  std::uint64_t elements_ahead = 0;  ///< what its fetch counts among those ahead of use
  bool has_changed = false;          ///< its weights have, and it was not unsharded since

  /// Whether the device's copy can be used again after the last use.
  [[nodiscard]] bool is_current() const noexcept { return held == weights; }
};

}  // namespace strata::zero3
