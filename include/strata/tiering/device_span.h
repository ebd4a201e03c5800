#pragma once

#include <cstdint>

namespace strata::tiering {

/// Names a stretch of a device's memory. It is a name and no more: it owns nothing, and it has no
/// pointer, because the memory of most devices faults when host code touches it. Code that may
/// touch it asks `Device::host_view`. A plain value; valid for as long as the DeviceMemory that it
/// is a part of.
class DeviceSpan {
 public:
  constexpr DeviceSpan() = default;
  constexpr DeviceSpan(std::uintptr_t address, std::uint64_t bytes) noexcept
      : address_(address), bytes_(bytes) {}

  /// The address as the device knows it: for a device's own calls and for libraries that take
  /// device pointers (LibTorch).
  [[nodiscard]] constexpr std::uintptr_t address() const noexcept { return address_; }
  [[nodiscard]] constexpr std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] constexpr bool empty() const noexcept { return bytes_ == 0; }

  /// `count` bytes from `offset` on. Throws UsageError when they reach beyond the end.
  [[nodiscard]] DeviceSpan subspan(std::uint64_t offset, std::uint64_t count) const;
  /// The first `count` bytes. Throws UsageError when there are fewer.
  [[nodiscard]] DeviceSpan first(std::uint64_t count) const { return subspan(0, count); }

  friend constexpr bool operator==(const DeviceSpan&, const DeviceSpan&) = default;

 private:
  std::uintptr_t address_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace strata::tiering
