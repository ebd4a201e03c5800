#include "strata/aio/lost_memory.h"

#include <algorithm>

namespace strata::aio {
namespace {

using Part = std::span<const std::byte>;

/// The overlap of two stretches of memory; empty when they have none.
Part common_part(Part a, Part b) {
  const std::byte* const begin = std::max(a.data(), b.data());
  const std::byte* const end = std::min(a.data() + a.size(), b.data() + b.size());
  return begin < end ? Part(begin, end) : Part();
}

}  // namespace

void LostMemory::add(Part memory) {
  const std::lock_guard lock(mutex_);
  parts_.push_back(memory);
  is_empty_.store(false, std::memory_order_release);
}

bool LostMemory::touches(Part memory) const {
  if (is_empty_.load(std::memory_order_acquire)) return false;
  const std::lock_guard lock(mutex_);
  return std::ranges::any_of(parts_, [&](Part part) { return !common_part(part, memory).empty(); });
}

std::vector<Part> LostMemory::within(Part memory) const {
  std::vector<Part> found;
  const std::lock_guard lock(mutex_);
  for (const Part part : parts_) {
    if (const Part common = common_part(part, memory); !common.empty()) found.push_back(common);
  }
  std::ranges::sort(found, {}, &Part::data);
  return found;
}

}  // namespace strata::aio
