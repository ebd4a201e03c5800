#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

/// \file
/// The health log of an NVMe drive (log page 02h of the NVMe base specification).

namespace strata::tool {

struct SmartLog {
  bool critical_warning = false;  ///< the drive says that something is wrong with it
  int temperature_celsius = 0;
  int available_spare_percent = 0;
  /// Share of its rated endurance in percent; may exceed 100, 255 stands for more than 254.
  int percentage_used = 0;
  std::uint64_t bytes_read = 0;  ///< counted in 512,000 bytes, rounded up by the drive
  std::uint64_t bytes_written = 0;
  std::uint64_t power_on_hours = 0;
  std::uint64_t unsafe_shutdowns = 0;
  std::uint64_t media_errors = 0;  ///< data that the drive could not give back intact
};

inline constexpr std::size_t kSmartLogBytes = 512;

/// Counts of 128 bits saturate at 2^64 - 1.
[[nodiscard]] SmartLog parse_smart_log(std::span<const std::byte, kSmartLogBytes> page);

/// The log, or one sentence that says why there is none.
struct SmartReading {
  std::optional<SmartLog> log;
  std::string why_not;
};

/// Asks the drive. `device` is a disk's name in /dev, "" for none. Needs an NVMe drive, and root
/// (CAP_SYS_ADMIN). Never throws.
[[nodiscard]] SmartReading read_smart_log(std::string_view device);

/// The rated endurance in bytes by the counters: bytes written over the share that they used
/// up. nullopt while the drive counts 0 %. The drive counts whole percents, so early figures are
/// coarse.
[[nodiscard]] std::optional<double> rated_bytes(const SmartLog& log);

/// The log in words: "38 C, 3 % of its endurance used, 12.3 TB written, no media errors".
[[nodiscard]] std::string describe(const SmartLog& log);

}  // namespace strata::tool
