#include "strata/tiering/region_allocator.h"

#include <algorithm>
#include <iterator>
#include <string>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tiering {

RegionAllocator::RegionAllocator(std::span<std::byte> memory) : memory_(memory) {
  if (reinterpret_cast<std::uintptr_t>(memory.data()) % kAlignment != 0) {
    throw UsageError("region allocator: its memory must start on a multiple of " +
                     std::to_string(kAlignment));
  }
  const std::uint64_t whole = memory.size() / kAlignment * kAlignment;
  if (whole > 0) free_.emplace(0, whole);
}

std::optional<std::span<std::byte>> RegionAllocator::try_take(std::uint64_t bytes) {
  if (bytes > memory_.size()) return std::nullopt;  // also keeps the rounding from overflowing
  const std::uint64_t needed = round_up(std::max<std::uint64_t>(bytes, 1), kAlignment);
  const auto fit = std::find_if(free_.begin(), free_.end(),
                                [&](const auto& stretch) { return stretch.second >= needed; });
  if (fit == free_.end()) return std::nullopt;

  const auto [offset, length] = *fit;
  free_.erase(fit);
  if (length > needed) free_.emplace(offset + needed, length - needed);
  taken_.emplace(offset, needed);
  used_ += needed;
  return memory_.subspan(offset, needed);
}

void RegionAllocator::give_back(std::span<std::byte> region) {
  const auto taken =
      taken_.find(static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(region.data()) -
                                             reinterpret_cast<std::uintptr_t>(memory_.data())));
  if (taken == taken_.end() || taken->second != region.size()) {
    throw UsageError("region allocator: " + std::to_string(region.size()) +
                     " bytes given back that were not taken as one region");
  }
  std::uint64_t offset = taken->first;
  std::uint64_t length = taken->second;
  taken_.erase(taken);
  used_ -= length;

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

}  // namespace strata::tiering
