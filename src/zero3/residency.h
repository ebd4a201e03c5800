#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "strata/tiering/region_map.h"

/// \file
/// Where a unit's weights are, seen from the device. Written by the schedule alone.

namespace strata::zero3 {

enum class Residency : std::uint8_t { kSharded, kFetching, kUnsharded, kCached };

struct ResidencyMeaning {
  Residency residency;
  std::string_view name;
  bool is_readable;     ///< the parameters have bytes
  bool may_be_evicted;  ///< its place on the device can be given to another unit
  std::string_view meaning;
};

/// The table of all of them. A unit goes down it in turn when it is used and back to the first row
/// when it is evicted; one that is used again before that goes from cached to unsharded.
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

/// What is known of one unit.
struct UnitResidency {
  Residency residency = Residency::kSharded;
  /// Its place on the device. None: it is sharded, or being staged, or its weights rest there.
  std::optional<tiering::Region> region{};
  std::uint32_t slots = 0;     ///< staging slots that it holds, being fetched without a region
  std::uint32_t uses = 0;      ///< entered and not left
  std::uint64_t weights = 0;   ///< version of those at home: how often they have changed
  std::uint64_t held = 0;      ///< version that the device has, or is being sent
  std::uint64_t last_use = 0;  ///< counted in entries of units

  /// Stands for no version: what the device has was written to, or came in part.
  static constexpr std::uint64_t kSpoiled = UINT64_MAX;
  /// Whether what the device has can be used again after the last use.
  [[nodiscard]] bool is_current() const noexcept { return held == weights; }
};

}  // namespace strata::zero3
