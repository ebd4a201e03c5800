#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "strata/tiering/device_span.h"
#include "strata/tiering/extent.h"

namespace strata::tiering {

/// Where one state of one shard rests: in memory of the host, in memory of the device, or in an
/// extent of the shard store; nowhere where the format has no such state. A small value; it owns
/// nothing.
struct StateHome {
  /// The bytes, where host code may touch them: in the host tier, and in the device tier when the
  /// device's memory is host memory.
  std::span<std::byte> memory{};
  DeviceSpan device{};             ///< range in the device tier
  std::optional<Extent> extent{};  ///< extent in the nvme tier

  [[nodiscard]] bool exists() const noexcept {
    return extent.has_value() || !memory.empty() || !device.empty();
  }
  /// Whether the bytes have to be brought to host memory before host code can work on them.
  [[nodiscard]] bool is_elsewhere() const noexcept { return exists() && memory.empty(); }
};

}  // namespace strata::tiering
