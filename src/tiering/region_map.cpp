#include "strata/tiering/region_map.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tiering {

RegionMap::RegionMap(std::uint64_t bytes) : capacity_(bytes / kAlignment * kAlignment) {
  if (capacity_ > 0) free_.emplace(0, capacity_);
}

std::optional<Region> RegionMap::try_take(std::uint64_t bytes) {
  if (bytes > capacity_) return std::nullopt;  // also keeps the rounding from overflowing
  const std::uint64_t needed = round_up(std::max<std::uint64_t>(bytes, 1), kAlignment);
  const auto fit = std::find_if(free_.begin(), free_.end(),
                                [&](const auto& stretch) { return stretch.second >= needed; });
  if (fit == free_.end()) return std::nullopt;

  const auto [offset, length] = *fit;
  free_.erase(fit);
  if (length > needed) free_.emplace(offset + needed, length - needed);
  taken_.emplace(offset, needed);
  used_ += needed;
  return Region{offset, needed};
}

void RegionMap::add(Region stretch) {
  if (stretch.bytes == 0 || stretch.offset % kAlignment != 0 || stretch.bytes % kAlignment != 0) {
    throw UsageError("region map: a stretch of " + std::to_string(stretch.bytes) + " bytes at " +
                     std::to_string(stretch.offset) + " does not lie on multiples of " +
                     std::to_string(kAlignment));
  }
  capacity_ += stretch.bytes;
  set_free(stretch);
}

void RegionMap::give_back(Region region) {
  const auto taken = taken_.find(region.offset);
  if (taken == taken_.end() || taken->second != region.bytes) {
    throw UsageError("region map: " + std::to_string(region.bytes) +
                     " bytes given back that were not taken as one region");
  }
  taken_.erase(taken);
  used_ -= region.bytes;
  set_free(region);
}

/// Frees a region, joined with its free neighbours.
void RegionMap::set_free(Region region) {
  auto [offset, length] = region;
  const auto after = free_.lower_bound(offset);
  if (after != free_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == offset) {
      offset = before->first;
      length += before->second;
      free_.erase(before);
    }
  }
  if (after != free_.end() && offset + length == after->first) {
    length += after->second;
    free_.erase(after);
  }
  free_.emplace(offset, length);
}

bool RegionMap::would_fit_beside(std::span<const Region> kept, std::uint64_t bytes) const {
  if (bytes > capacity_) return false;
  const std::uint64_t needed = round_up(std::max<std::uint64_t>(bytes, 1), kAlignment);
  std::vector<Region> sorted(kept.begin(), kept.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const Region& a, const Region& b) { return a.offset < b.offset; });
  sorted.push_back({capacity_, 0});
  std::uint64_t begin = 0;
  for (const Region& region : sorted) {
    if (region.offset - begin >= needed) return true;
    begin = region.offset + region.bytes;
  }
  return false;
}

}  // namespace strata::tiering
