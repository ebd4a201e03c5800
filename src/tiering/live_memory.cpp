#include "tiering/live_memory.h"

#include <iterator>

#include "strata/base/error.h"

namespace strata::tiering {
namespace {

DeviceSpan place_of(std::span<const std::byte> memory) {
  return {reinterpret_cast<std::uintptr_t>(memory.data()), memory.size()};
}

void check_ends(std::string_view operation, DeviceSpan from, DeviceSpan to) {
  const bool overlap =
      from.address() < to.address() + to.bytes() && to.address() < from.address() + from.bytes();
  if (from.bytes() == to.bytes() && (!overlap || from.empty())) return;
  throw UsageError(std::string(operation) + " of " + std::to_string(from.bytes()) +
                   " bytes to a place of " + std::to_string(to.bytes()) +
                   (overlap ? " that overlaps them" : "") +
                   ": the two must have the same length and not overlap");
}

}  // namespace

void LiveMemory::add(DeviceSpan memory, std::string_view what) {
  live_.emplace(memory.address(), Memory{memory.bytes(), std::string(what)});
}

void LiveMemory::remove(DeviceSpan memory) { live_.erase(memory.address()); }

void LiveMemory::check(std::string_view operation, DeviceSpan range) const {
  if (range.empty()) return;
  const auto after = live_.upper_bound(range.address());
  if (after != live_.begin()) {
    const auto& [start, memory] = *std::prev(after);
    const std::uint64_t offset = range.address() - start;
    if (offset < memory.bytes && range.bytes() <= memory.bytes - offset) return;
  }
  throw UsageError(std::string(operation) + " on " + device_ + ": " +
                   std::to_string(range.bytes()) + " bytes that are not inside of live memory of " +
                   "this device; " + nearest(range) +
                   "; keep the DeviceMemory alive until its last event is done");
}

void LiveMemory::check_copy(std::string_view operation, std::span<const std::byte> from,
                            DeviceSpan to) const {
  check_ends(operation, place_of(from), to);
  check(operation, to);
}

void LiveMemory::check_copy(std::string_view operation, DeviceSpan from,
                            std::span<const std::byte> to) const {
  check_ends(operation, from, place_of(to));
  check(operation, from);
}

void LiveMemory::check_copy(std::string_view operation, DeviceSpan from, DeviceSpan to) const {
  check_ends(operation, from, to);
  check(operation, from);
  check(operation, to);
}

std::string LiveMemory::nearest(DeviceSpan range) const {
  const auto after = live_.upper_bound(range.address());
  if (after == live_.begin()) return "all of its memory lies at higher addresses";
  const auto& [start, memory] = *std::prev(after);
  return "they begin " + std::to_string(range.address() - start) + " bytes after the first of '" +
         memory.what + "', which has " + std::to_string(memory.bytes);
}

}  // namespace strata::tiering
