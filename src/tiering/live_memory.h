#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "strata/tiering/device_span.h"

namespace strata::tiering {

/// The memory that a device has given and not taken back. It tells misuse: every device refuses the
/// same calls in the same words. Costs a look-up in a small map for each range. Not
/// thread-safe.
class LiveMemory {
 public:
  explicit LiveMemory(std::string device) : device_(std::move(device)) {}

  void add(DeviceSpan memory, std::string_view what);
  void remove(DeviceSpan memory);

  /// Throws UsageError, naming `operation`, for a range that is not inside of one live memory.
  void check(std::string_view operation, DeviceSpan range) const;

  /// Checks both ends of a copy, and that they have one length and do not overlap.
  void check_copy(std::string_view operation, std::span<const std::byte> from, DeviceSpan to) const;
  void check_copy(std::string_view operation, DeviceSpan from, std::span<const std::byte> to) const;
  void check_copy(std::string_view operation, DeviceSpan from, DeviceSpan to) const;

 private:
  struct Memory {
    std::uint64_t bytes;
    std::string what;
  };
  [[nodiscard]] std::string nearest(DeviceSpan range) const;

  std::string device_;
  std::map<std::uintptr_t, Memory> live_;  // keyed by the first address
};

}  // namespace strata::tiering
