#include "smart.h"

#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include "strata/base/error.h"

namespace strata::tool {
namespace {

// Places in the log page.
constexpr std::size_t kCriticalWarning = 0;
constexpr std::size_t kTemperature = 1;  // 2 bytes, kelvin
constexpr std::size_t kAvailableSpare = 3;
constexpr std::size_t kPercentageUsed = 5;
constexpr std::size_t kUnitsRead = 32;  // this and those below: 16 bytes
constexpr std::size_t kUnitsWritten = 48;
constexpr std::size_t kPowerOnHours = 128;
constexpr std::size_t kUnsafeShutdowns = 144;
constexpr std::size_t kMediaErrors = 160;

constexpr std::uint64_t kUnitBytes = 512'000;  // thousands of 512 bytes
constexpr int kZeroCelsius = 273;

constexpr std::uint8_t kGetLogPage = 0x02;
constexpr std::uint32_t kHealthLog = 0x02;
constexpr std::uint32_t kWholeDrive = 0xffffffff;
constexpr std::uint32_t kTimeoutMs = 5'000;

using Page = std::span<const std::byte, kSmartLogBytes>;

int byte_at(Page page, std::size_t at) { return std::to_integer<int>(page[at]); }

/// Reads a little-endian number.
std::uint64_t count_at(Page page, std::size_t at) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    value |= std::to_integer<std::uint64_t>(page[at + i]) << (8 * i);
    if (page[at + 8 + i] != std::byte{0}) return UINT64_MAX;
  }
  return value;
}

std::uint64_t bytes_at(Page page, std::size_t at) {
  std::uint64_t bytes = 0;
  const bool overflows = __builtin_mul_overflow(count_at(page, at), kUnitBytes, &bytes);
  return overflows ? UINT64_MAX : bytes;
}

/// Closes the descriptor that it holds.
struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

/// At least two digits, never an exponent: "0.51", "1.2", "38.0".
std::string terabytes(std::uint64_t bytes) {
  const double value = static_cast<double>(bytes) / 1e12;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), value < 1 ? "%.2f" : "%.1f", value);
  return text.data();
}

std::string reason_of(int code) {
  std::string name = errno_name(code);
  if (code == EACCES || code == EPERM) return name + "; run it as root";
  return name;
}

}  // namespace

SmartLog parse_smart_log(Page page) {
  SmartLog log;
  log.critical_warning = byte_at(page, kCriticalWarning) != 0;
  log.temperature_celsius =
      (byte_at(page, kTemperature) | byte_at(page, kTemperature + 1) << 8) - kZeroCelsius;
  log.available_spare_percent = byte_at(page, kAvailableSpare);
  log.percentage_used = byte_at(page, kPercentageUsed);
  log.bytes_read = bytes_at(page, kUnitsRead);
  log.bytes_written = bytes_at(page, kUnitsWritten);
  log.power_on_hours = count_at(page, kPowerOnHours);
  log.unsafe_shutdowns = count_at(page, kUnsafeShutdowns);
  log.media_errors = count_at(page, kMediaErrors);
  return log;
}

SmartReading read_smart_log(std::string_view device) {
  if (device.empty()) return {std::nullopt, "there is no drive behind the directory"};
  const std::string path = "/dev/" + std::string(device);
  if (!device.starts_with("nvme")) {
    return {std::nullopt, path + " is no NVMe drive: it has no NVMe health log"};
  }
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.value < 0) {
    return {std::nullopt, "the health log of " + path + ": open: " + reason_of(errno)};
  }
  std::array<std::byte, kSmartLogBytes> page{};
  nvme_admin_cmd command{};
  command.opcode = kGetLogPage;
  command.nsid = kWholeDrive;
  command.addr = reinterpret_cast<std::uintptr_t>(page.data());
  command.data_len = kSmartLogBytes;
  command.cdw10 = kHealthLog | (kSmartLogBytes / 4 - 1) << 16;  // dwords less one
  command.timeout_ms = kTimeoutMs;
  const int status = ::ioctl(file.value, NVME_IOCTL_ADMIN_CMD, &command);
  if (status < 0) {
    return {std::nullopt, "the health log of " + path + ": ioctl: " + reason_of(errno)};
  }
  if (status > 0) {
    return {std::nullopt, "the health log of " + path + ": the drive answers with status " +
                              std::to_string(status)};
  }
  return {parse_smart_log(page), ""};
}

std::optional<double> rated_bytes(const SmartLog& log) {
  if (log.percentage_used == 0) return std::nullopt;
  return static_cast<double>(log.bytes_written) * 100 / log.percentage_used;
}

std::string describe(const SmartLog& log) {
  std::string text = std::to_string(log.temperature_celsius) + " C, " +
                     std::to_string(log.percentage_used) + " % of its endurance used, " +
                     terabytes(log.bytes_written) + " TB written, ";
  text += log.media_errors == 0 ? "no media errors"
                                : std::to_string(log.media_errors) + " MEDIA ERRORS";
  if (log.critical_warning) text += ", and the drive warns of itself (see nvme smart-log)";
  return text;
}

}  // namespace strata::tool
